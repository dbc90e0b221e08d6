"""The running application: the queries of one group, how they are maintained and ended. Threads start only here."""

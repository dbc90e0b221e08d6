"""The running application: the queries of one group, their maintenance and their ends. Only this room starts threads."""

"""The running application: queries of one group, their care and their ends. Only here do threads begin."""

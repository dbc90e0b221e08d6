"""Changes of tables that no batch makes: late events, erasures, requeued records, rows that expire."""

"""Alerts: rows of tables that somebody must look at, opened and closed once each, and told where people read.

| layer | file | answers for |
|---|---|---|
| values | `alert_spec.py` | what an alert is; the files are in `platform_assets/alerts` |
| Delta | `positions.py`, `alert_table.py` | how far a table was followed; `platform.alerts` |
| decisions | `raised_rows.py`, `alert_states.py` | what rows say about keys; which alerts open, go on and close |
| work | `log_follower.py`, `alert_follower.py`, `channel_follower.py` | one alert, one channel |
| work | `alert_group.py` | all of a host |
| messages | `message.py`, `channels.py` | what people read; a topic of Kafka, a webhook, e-mail |
| catalogue | `catalogue.py` | which alerts and channels the settings name |
"""

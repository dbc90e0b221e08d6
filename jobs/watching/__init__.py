"""The platform as processes: started together, watched, and stopped without leaving one behind."""

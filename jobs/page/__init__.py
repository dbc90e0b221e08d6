"""The live page: what the tables say, kept up to date for everybody who looks, by one reader."""

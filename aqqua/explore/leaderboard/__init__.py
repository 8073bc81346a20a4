"""The leaderboard: entries of many models as one page that works offline."""

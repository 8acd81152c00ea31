"""The admin around the pages of the apps: its frame, and its first page with figures."""

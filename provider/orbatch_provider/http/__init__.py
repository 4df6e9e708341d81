"""Requests over HTTP: connections, deadlines, the API key, and what each response means."""

"""The recovery runbook of one plan: the facts, what they come to, and the page as Markdown and HTML."""

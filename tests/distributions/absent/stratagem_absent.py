"""Is here, but under another name than the entry point says."""

"""What several test files share: planted runs and sweeps, fake loggers, tokenizers, a headless browser."""

"""Fine-tuning: a backbone and a head learnt from labels, traits or measured carbon."""

"""How frozen features are judged: probes that are fitted on labelled rows and answer with probabilities."""

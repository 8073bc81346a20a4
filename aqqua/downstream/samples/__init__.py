"""What a sample holds in a cubic metre of water: numbers, volume, carbon, each with its interval."""

"""What a model is judged on: data sets side by side, what their labels mean, and how they are split."""

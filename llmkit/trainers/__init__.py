"""What all training stages share, in parts that `transformers.Trainer` and TRL's trainers take."""

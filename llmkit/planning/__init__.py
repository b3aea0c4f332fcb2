"""What a recipe's stages will take: their models, their work, and a table of it all."""

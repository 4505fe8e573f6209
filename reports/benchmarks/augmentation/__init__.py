"""How much RandAugment changes images, by its magnitude and its form."""

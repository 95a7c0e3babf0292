"""Side-by-side measurement of deploys: a generated site, an index on loopback, contestants, and the floor."""

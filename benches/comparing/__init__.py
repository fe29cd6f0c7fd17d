"""The parts of `benches/compare`: what is done, by whom, how it is measured, and how it is told."""

//! willis-simulation.

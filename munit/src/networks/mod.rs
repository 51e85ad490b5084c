//! The networks, exact and differentiable.

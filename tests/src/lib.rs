//! Harness of the black-box suite.

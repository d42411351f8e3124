//! A host for native tests.

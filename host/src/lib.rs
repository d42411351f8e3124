//! The Bulkhead host.

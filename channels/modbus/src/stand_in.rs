//! Until the SDK is there.
#![allow(missing_docs)]
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Boolean(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Booleans(Vec<bool>),
    Ints(Vec<i64>),
    Uints(Vec<u64>),
    Floats(Vec<f64>),
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    Good,
    Bad,
    BadNotConnected,
    BadNoCommunication,
    BadTimeout,
    BadDeviceFailure,
    BadConfiguration,
    BadNotSupported,
    BadTypeMismatch,
    BadOutOfRange,
}

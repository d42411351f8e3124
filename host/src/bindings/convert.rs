//! Values, qualities and severities, between the ABI's types and the host's.

use super::{actions, types};
use crate::event::{Quality, Severity, Value};

impl From<types::Value> for Value {
    #[inline]
    fn from(value: types::Value) -> Self {
        match value {
            types::Value::Boolean(v) => Value::Boolean(v),
            types::Value::Int(v) => Value::Int(v),
            types::Value::Uint(v) => Value::Uint(v),
            types::Value::Float(v) => Value::Float(v),
            types::Value::Text(v) => Value::Text(v.into()),
            types::Value::Bytes(v) => Value::Bytes(v.into()),
            types::Value::Booleans(v) => Value::Booleans(v.into()),
            types::Value::Ints(v) => Value::Ints(v.into()),
            types::Value::Uints(v) => Value::Uints(v.into()),
            types::Value::Floats(v) => Value::Floats(v.into()),
            types::Value::Texts(v) => Value::Texts(v.into_iter().map(Into::into).collect()),
        }
    }
}

impl From<Value> for types::Value {
    #[inline]
    fn from(value: Value) -> Self {
        match value {
            Value::Boolean(v) => types::Value::Boolean(v),
            Value::Int(v) => types::Value::Int(v),
            Value::Uint(v) => types::Value::Uint(v),
            Value::Float(v) => types::Value::Float(v),
            Value::Text(v) => types::Value::Text(v.into()),
            Value::Bytes(v) => types::Value::Bytes(v.into()),
            Value::Booleans(v) => types::Value::Booleans(v.into()),
            Value::Ints(v) => types::Value::Ints(v.into()),
            Value::Uints(v) => types::Value::Uints(v.into()),
            Value::Floats(v) => types::Value::Floats(v.into()),
            Value::Texts(v) => types::Value::Texts(v.into_iter().map(Into::into).collect()),
        }
    }
}

impl From<actions::Severity> for Severity {
    fn from(severity: actions::Severity) -> Self {
        match severity {
            actions::Severity::Info => Severity::Info,
            actions::Severity::Warning => Severity::Warning,
            actions::Severity::Error => Severity::Error,
            actions::Severity::Critical => Severity::Critical,
        }
    }
}

impl From<types::Quality> for Quality {
    #[inline]
    fn from(quality: types::Quality) -> Self {
        use types::Quality as Abi;
        match quality {
            Abi::Good => Quality::Good,
            Abi::GoodLocalOverride => Quality::GoodLocalOverride,
            Abi::Uncertain => Quality::Uncertain,
            Abi::UncertainLastKnown => Quality::UncertainLastKnown,
            Abi::UncertainOutOfRange => Quality::UncertainOutOfRange,
            Abi::UncertainSubNormal => Quality::UncertainSubNormal,
            Abi::Bad => Quality::Bad,
            Abi::BadWaitingForInitialData => Quality::BadWaitingForInitialData,
            Abi::BadNotConnected => Quality::BadNotConnected,
            Abi::BadNoCommunication => Quality::BadNoCommunication,
            Abi::BadTimeout => Quality::BadTimeout,
            Abi::BadDeviceFailure => Quality::BadDeviceFailure,
            Abi::BadOutOfService => Quality::BadOutOfService,
            Abi::BadConfiguration => Quality::BadConfiguration,
            Abi::BadNotSupported => Quality::BadNotSupported,
            Abi::BadTypeMismatch => Quality::BadTypeMismatch,
            Abi::BadOutOfRange => Quality::BadOutOfRange,
            Abi::BadStale => Quality::BadStale,
        }
    }
}

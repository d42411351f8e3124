//! Not yet.
mod address;
mod exception;
mod frame;
mod layout;
mod order;
mod plan;
mod point;
mod settings;
mod stand_in;
mod value;

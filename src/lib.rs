pub mod frame;
pub mod message;
pub mod parse;
pub mod template;

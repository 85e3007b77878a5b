//! What listings look like: tables, sizes and times for people, `--format`. Nothing here knows an image or a
//! container; it is handed rows and JSON values.

pub(crate) mod calendar;
pub(crate) mod format;
pub(crate) mod human;
pub(crate) mod safe;
pub(crate) mod table;
pub(crate) mod template;

//! Pictures on disk: what they are called and what is in the file.

mod name;
mod png;
mod recipe;

pub use self::name::{Naming, output_names, split_file_path};
pub use self::png::write_png;
pub use self::recipe::Recipe;

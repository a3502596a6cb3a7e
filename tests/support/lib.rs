//! The test bed: what the tests and the demo start on a machine to be close to the real thing, and how it is cleaned up.

pub mod agent;
pub mod api;
pub mod chart;
pub mod guardian;
pub mod guest_image;
pub mod guests;
pub mod http;
pub mod hugepages;
pub mod images;
pub mod kernel_counts;
#[path = "../guest-load/load.rs"]
pub mod load;
pub mod machine;
pub mod node;
pub mod parts;
pub mod process;
pub mod product_images;
pub mod road;
pub mod screen;
pub mod session;
pub mod squeeze;
pub mod table;
pub mod undo;
pub mod valve;
pub mod wait;

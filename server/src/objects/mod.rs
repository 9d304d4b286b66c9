//! Large content outside of the database: a directory or an S3 bucket. An object's name is a new id each time, so nothing
//! is ever overwritten; which object is whose content is the database's to say (`store::file_objects`).

mod location;
mod storage;
mod upload;

pub use location::{ObjectLocation, ObjectLocationError};
pub use storage::{ObjectError, ObjectId, ObjectStorage};
pub use upload::ObjectUpload;

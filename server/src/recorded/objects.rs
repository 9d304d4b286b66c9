//! What a server of an earlier release wrote to the object store is found by this one, and the other way round.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{bytes, hex, recorded, text};
use crate::objects::{ObjectId, ObjectLocation, ObjectStorage};

const OBJECT: ObjectId = ObjectId(Uuid::from_u128(0x0199_7000_0000_7000_8000_0000_0000_00c5));
const BUCKET: &str = "s3://bucket/some/prefix";
const CONTENT: &[u8] = b"content";

#[tokio::test]
async fn recorded_objects_are_found_where_they_were() {
    for (release, record) in recorded() {
        let objects = &record["objects"];
        let id = Uuid::from_slice(&bytes(&objects["id"])).expect("an id");
        let id = ObjectId(id);

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(text(&objects["file"]));
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(&file, CONTENT).expect("written");
        let storage = directory(folder.path());
        let read = storage.read(id, 0..CONTENT.len() as u64).await;
        let read = read.unwrap_or_else(|error| {
            panic!(
                "{:?}: {error}: what that release stored lies there for years, so look there as well; see compat/README.md",
                release.folder
            )
        });
        assert_eq!(read, CONTENT);

        fs::remove_file(&file).expect("removed");
        let mut upload = storage.begin(id);
        upload
            .append(Bytes::from_static(CONTENT))
            .await
            .expect("taken");
        upload.finish().await.expect("stored");
        assert!(
            file.is_file(),
            "older servers look for it there: write elsewhere a release later"
        );

        let bucket = objects["bucket"].as_str().expect("a text");
        let now = name_in(bucket, id);
        assert_eq!(now, text(&objects["name"]), "it is the same in a bucket");
    }
}

pub(super) fn record() -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    json!({
        "id": hex(OBJECT.0.as_bytes()),
        "file": directory(folder.path()).path(OBJECT).to_string(),
        "bucket": BUCKET,
        "name": name_in(BUCKET, OBJECT),
    })
}

fn directory(path: &Path) -> ObjectStorage {
    ObjectStorage::open(&ObjectLocation::Directory(path.to_owned())).expect("it opens")
}

/// Nothing is asked of the bucket.
fn name_in(bucket: &str, id: ObjectId) -> String {
    let location: ObjectLocation = bucket.parse().expect("a place for objects");
    let storage = ObjectStorage::open(&location).expect("it opens");
    storage.path(id).to_string()
}

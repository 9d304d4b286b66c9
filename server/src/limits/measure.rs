//! What a call of each method counts as.

/// What a call counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Nothing. What workers say is in proportion to the leases that they were given, and no flood of theirs or of others
    /// with their credential may end a heartbeat; probes are answered without a look at anything.
    Free,
    /// A call with one answer.
    Call,
    /// A stream of messages.
    Stream,
    /// A stream, or a call that waits, for what is to come.
    Watcher,
}

/// Prefix of all that workers call.
const WORKERS: &str = "/taskyard.v1.WorkerService/";

const FREE: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
];

const WATCHERS: &[&str] = &[
    "/taskyard.v1.SessionTaskService/Watch",
    "/taskyard.v1.SessionTaskService/WaitTasks",
    "/taskyard.v1.SessionTaskService/TailOutput",
    "/taskyard.v1.SessionTaskService/TakeWakes",
    "/taskyard.v1.TaskAgentService/Ask",
    "/taskyard.v1.TaskAgentService/ReceiveMessages",
    "/externalscaler.ExternalScaler/StreamIsActive",
    "/grpc.health.v1.Health/Watch",
];

const STREAMS: &[&str] = &[
    "/taskyard.v1.SessionFileService/Write",
    "/taskyard.v1.SessionFileService/Read",
    "/taskyard.v1.TaskAgentService/PublishArtifact",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What a call of the method with this path counts as.
#[must_use]
pub fn measure(path: &str) -> Measure {
    if path.starts_with(WORKERS) || FREE.contains(&path) {
        Measure::Free
    } else if WATCHERS.contains(&path) {
        Measure::Watcher
    } else if STREAMS.contains(&path) {
        Measure::Stream
    } else {
        Measure::Call
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::rules;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    #[test]
    fn every_stream_counts_as_one_and_every_name_is_a_method() {
        for path in FREE.iter().chain(WATCHERS).chain(STREAMS) {
            assert!(rules::find(path).is_some(), "{path}");
        }
        for encoded in [
            taskyard_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let set = FileDescriptorSet::decode(encoded).expect("descriptors");
            for file in set.file {
                for service in &file.service {
                    for method in &service.method {
                        let path =
                            format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        if method.client_streaming() || method.server_streaming() {
                            assert_ne!(measure(&path), Measure::Call, "{path} is a stream");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn heartbeats_are_never_counted_and_what_tasks_say_is() {
        assert_eq!(measure("/taskyard.v1.WorkerService/Attach"), Measure::Free);
        assert_eq!(measure("/taskyard.v1.WorkerService/Report"), Measure::Free);
        assert_eq!(measure("/taskyard.v1.TaskAgentService/Post"), Measure::Call);
    }
}

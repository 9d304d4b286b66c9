//! What the work says, without the values of its secrets. Only where an attempt has secrets is a call looked into.

use bytes::{Buf, Bytes, BytesMut};
use futures::{StreamExt, stream};
use http::Request;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use prost::Message;
use taskyard_proto::v1::{self, answer_task_request::Answer, message_part::Part};
use tonic::Status;
use tonic::body::Body;

use super::gate::{AGENT_SERVICE, MESSAGE_HEAD_BYTES, REQUEST_BYTES_MAX, TASK_SERVICE};
use super::refusal;
use crate::mask::Masks;

/// Masks the first message of a call, which says all but the bytes of a file; or refuses it, where a secret would become
/// part of what another task is: there it must be given as a secret.
pub(super) async fn mask_request(
    masks: &Masks,
    request: Request<Body>,
) -> Result<Request<Body>, Status> {
    let Some(rewrite) = rewrite_of(request.uri().path()) else {
        return Ok(request);
    };
    let (mut head, body) = request.into_parts();
    let (mut content, rest) = read_first_message(body).await?;
    let first = match split_first_message(&mut content)? {
        Some(message) => frame(&rewrite(masks, message)?)?,
        // cut off; the control plane says so
        None => Bytes::new(),
    };
    head.headers.remove(CONTENT_LENGTH);
    let read = [first, content.freeze()].map(|bytes| Ok(Frame::data(bytes)));
    let frames = stream::iter(read).chain(BodyStream::new(rest));
    Ok(Request::from_parts(
        head,
        Body::new(StreamBody::new(frames)),
    ))
}

type Rewrite = fn(&Masks, Bytes) -> Result<Vec<u8>, Status>;

/// Absent: the call says nothing that is kept.
fn rewrite_of(path: &str) -> Option<Rewrite> {
    if let Some(method) = path.strip_prefix(AGENT_SERVICE) {
        return Some(match method {
            "ReportProgress" => rewrite::<v1::ReportProgressRequest>,
            "Ask" => rewrite::<v1::AskRequest>,
            "Post" => rewrite::<v1::PostRequest>,
            "PublishArtifact" => rewrite::<v1::PublishArtifactRequest>,
            "SetResult" => rewrite::<v1::SetResultRequest>,
            "ReportUsage" => rewrite::<v1::ReportUsageRequest>,
            _ => return None,
        });
    }
    Some(match path.strip_prefix(TASK_SERVICE)? {
        "PostMessage" => rewrite::<v1::PostMessageRequest>,
        "AnswerTask" => rewrite::<v1::AnswerTaskRequest>,
        "UpdateTask" => rewrite::<v1::UpdateTaskRequest>,
        "CreateTask" => rewrite::<v1::CreateTaskRequest>,
        "BatchCreateTasks" => rewrite::<v1::BatchCreateTasksRequest>,
        "CloneTask" => rewrite::<v1::CloneTaskRequest>,
        _ => return None,
    })
}

fn rewrite<M: Maskable>(masks: &Masks, message: Bytes) -> Result<Vec<u8>, Status> {
    // what cannot be read is refused by the control plane, which would repeat none of it
    let Ok(mut decoded) = M::decode(message.clone()) else {
        return Ok(message.into());
    };
    decoded.mask(masks)?;
    Ok(decoded.encode_to_vec())
}

/// A request in which secrets can be.
trait Maskable: Message + Default {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status>;
}

impl Maskable for v1::ReportProgressRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        mask_progress(masks, self.progress.as_mut());
        if let Some(detail) = &mut self.state_detail {
            masks.apply(detail);
        }
        Ok(())
    }
}

impl Maskable for v1::AskRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        masks.apply(&mut self.key);
        masks.apply(&mut self.prompt);
        masks.apply_json(&mut self.expected_json);
        Ok(())
    }
}

impl Maskable for v1::PostRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        masks.apply(&mut self.request_id);
        mask_parts(masks, &mut self.parts);
        Ok(())
    }
}

impl Maskable for v1::PublishArtifactRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        if let Some(artifact) = &mut self.artifact {
            mask_artifact(masks, artifact);
        }
        Ok(())
    }
}

impl Maskable for v1::SetResultRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        masks.apply_json(&mut self.output_json);
        Ok(())
    }
}

impl Maskable for v1::ReportUsageRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        masks.apply_json(&mut self.usage_json);
        Ok(())
    }
}

impl Maskable for v1::PostMessageRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        masks.apply(&mut self.request_id);
        mask_parts(masks, &mut self.parts);
        Ok(())
    }
}

impl Maskable for v1::AnswerTaskRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        match &mut self.answer {
            Some(Answer::Text(text)) => masks.apply(text),
            Some(Answer::AnswerJson(json)) => masks.apply_json(json),
            None => {}
        }
        Ok(())
    }
}

impl Maskable for v1::UpdateTaskRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        masks.apply(&mut self.state_detail);
        masks.apply(&mut self.summary);
        mask_progress(masks, self.progress.as_mut());
        for artifact in self.artifacts.iter_mut().chain(&mut self.append_artifacts) {
            mask_artifact(masks, artifact);
        }
        for links in self.links.iter_mut().chain(&mut self.merge_links) {
            masks.apply(&mut links.child_session_id);
            masks.apply(&mut links.remote_task_id);
            links.resource_ids.iter_mut().for_each(|id| masks.apply(id));
        }
        Ok(())
    }
}

impl Maskable for v1::CreateTaskRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        check_definitions(masks, &self.task)
    }
}

impl Maskable for v1::BatchCreateTasksRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        check_definitions(masks, &self.tasks)
    }
}

impl Maskable for v1::CloneTaskRequest {
    fn mask(&mut self, masks: &Masks) -> Result<(), Status> {
        check_definitions(masks, &self.changes)
    }
}

/// A definition is read by many and must do what it says: it is neither stored with a secret in it nor changed.
fn check_definitions<'a>(
    masks: &Masks,
    definitions: impl IntoIterator<Item = &'a v1::TaskDefinition>,
) -> Result<(), Status> {
    for definition in definitions {
        let read_by_others = v1::TaskDefinition {
            secrets: Vec::new(),
            ..definition.clone()
        };
        if masks.find(&read_by_others.encode_to_vec()) {
            return Err(refusal::secret_in_definition());
        }
    }
    Ok(())
}

fn mask_progress(masks: &Masks, progress: Option<&mut v1::Progress>) {
    let Some(progress) = progress else {
        return;
    };
    masks.apply(&mut progress.unit);
    masks.apply(&mut progress.label);
    for step in &mut progress.steps {
        masks.apply(&mut step.title);
    }
}

fn mask_artifact(masks: &Masks, artifact: &mut v1::Artifact) {
    masks.apply(&mut artifact.name);
    masks.apply(&mut artifact.r#type);
    masks.apply(&mut artifact.path);
    masks.apply(&mut artifact.url);
}

fn mask_parts(masks: &Masks, parts: &mut [v1::MessagePart]) {
    for part in parts.iter_mut().filter_map(|part| part.part.as_mut()) {
        match part {
            Part::Text(text) => masks.apply(text),
            Part::DataJson(json) => masks.apply_json(json),
            Part::File(file) => {
                masks.apply(&mut file.path);
                masks.apply(&mut file.name);
                masks.apply(&mut file.media_type);
            }
        }
    }
}

/// Reads until the first message is there, or the body is over; what came beyond it comes along.
async fn read_first_message(mut body: Body) -> Result<(BytesMut, Body), Status> {
    let mut content = BytesMut::new();
    while whole_length(&content)?.is_none_or(|length| content.len() < length) {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    content.extend_from_slice(&data);
                }
            }
            Some(Err(status)) => return Err(status),
            None => break,
        }
    }
    Ok((content, body))
}

/// Bytes of the first message with its head; absent: not even the head is there.
fn whole_length(content: &[u8]) -> Result<Option<usize>, Status> {
    let Some([compressed, length @ ..]) = content.first_chunk::<MESSAGE_HEAD_BYTES>() else {
        return Ok(None);
    };
    if *compressed != 0 {
        return Err(refusal::compressed());
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > REQUEST_BYTES_MAX {
        return Err(refusal::message_too_large(REQUEST_BYTES_MAX));
    }
    Ok(Some(MESSAGE_HEAD_BYTES + length))
}

fn split_first_message(content: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    match whole_length(content)? {
        Some(length) if length <= content.len() => {
            let mut message = content.split_to(length).freeze();
            message.advance(MESSAGE_HEAD_BYTES);
            Ok(Some(message))
        }
        Some(_) | None => Ok(None),
    }
}

fn frame(message: &[u8]) -> Result<Bytes, Status> {
    let length =
        u32::try_from(message.len()).map_err(|_| refusal::message_too_large(REQUEST_BYTES_MAX))?;
    let mut framed = Vec::with_capacity(MESSAGE_HEAD_BYTES + message.len());
    framed.push(0);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    Ok(framed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    const SECRET: &str = "hunter2-hunter2";

    fn masks() -> Masks {
        Masks::new(&[SECRET.as_bytes().to_vec()])
    }

    async fn masked(path: &str, content: Vec<u8>, cut: usize) -> Result<Vec<u8>, Status> {
        let (first, rest) = content.split_at(cut.min(content.len()));
        let pieces = [first.to_vec(), rest.to_vec()]
            .map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        let body = Body::new(StreamBody::new(stream::iter(pieces)));
        let request = Request::builder().uri(path).body(body);
        let request = mask_request(&masks(), request.expect("a request")).await?;
        let collected = request.into_body().collect().await?;
        Ok(collected.to_bytes().into())
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        frame(&message.encode_to_vec()).expect("it is small").into()
    }

    #[tokio::test]
    async fn a_call_is_masked_however_its_bytes_come() {
        let path = "/taskyard.v1.TaskAgentService/ReportProgress";
        let said = |text: &str| v1::ReportProgressRequest {
            state_detail: Some(format!("it is {text}")),
            progress: Some(v1::Progress {
                label: text.to_owned(),
                ..v1::Progress::default()
            }),
        };
        let content = framed(&said(SECRET));
        for cut in 0..content.len() {
            let out = masked(path, content.clone(), cut)
                .await
                .expect("it is good");
            assert_eq!(out, framed(&said("***")), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn the_bytes_of_an_artifact_pass_as_they_are() {
        let path = "/taskyard.v1.TaskAgentService/PublishArtifact";
        let first = |name: &str| v1::PublishArtifactRequest {
            artifact: Some(v1::Artifact {
                name: name.to_owned(),
                ..v1::Artifact::default()
            }),
            ..v1::PublishArtifactRequest::default()
        };
        let bytes = framed(&v1::PublishArtifactRequest {
            data: SECRET.as_bytes().into(),
            ..v1::PublishArtifactRequest::default()
        });
        let content = [framed(&first(SECRET)), bytes.clone()].concat();
        let expected = [framed(&first("***")), bytes].concat();
        for cut in [3, 20, content.len() - 3] {
            let out = masked(path, content.clone(), cut)
                .await
                .expect("it is good");
            assert_eq!(out, expected);
        }
    }

    #[tokio::test]
    async fn a_child_gets_a_secret_as_a_secret_only() {
        let path = "/taskyard.v1.SessionTaskService/CreateTask";
        let mut request = v1::CreateTaskRequest {
            task: Some(v1::TaskDefinition {
                display_name: SECRET.to_owned(),
                ..v1::TaskDefinition::default()
            }),
            ..v1::CreateTaskRequest::default()
        };
        let refused = masked(path, framed(&request), 0).await;
        let status = refused.expect_err("it holds a secret");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(!status.message().contains(SECRET));
        request.task = Some(v1::TaskDefinition {
            secrets: vec![v1::TaskSecret {
                name: "TOKEN".to_owned(),
                source: Some(v1::task_secret::Source::Value(SECRET.as_bytes().into())),
                to_file: String::new(),
            }],
            ..v1::TaskDefinition::default()
        });
        let out = masked(path, framed(&request), 0).await.expect("it is good");
        assert_eq!(out, framed(&request));
    }

    #[tokio::test]
    async fn what_cannot_be_looked_into_does_not_pass() {
        let path = "/taskyard.v1.TaskAgentService/Post";
        let compressed = masked(path, b"\x01\0\0\0\x02zz".to_vec(), 0).await;
        assert_eq!(
            compressed.expect_err("no").code(),
            tonic::Code::Unimplemented
        );
        let large = masked(path, b"\0\xff\xff\xff\xff".to_vec(), 0).await;
        assert_eq!(
            large.expect_err("no").code(),
            tonic::Code::ResourceExhausted
        );
        let other = "/taskyard.v1.TaskAgentService/GetSelf";
        let body = Body::new(Full::new(Bytes::from_static(b"anything")));
        let request = Request::builder().uri(other).body(body).expect("a request");
        let out = mask_request(&masks(), request).await.expect("it passes");
        let out = out.into_body().collect().await.expect("read").to_bytes();
        assert_eq!(out, "anything");
    }
}

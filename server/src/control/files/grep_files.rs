//! Searching files for a pattern.

use super::{
    FileReader,
    file_walk::{FileWalk, WalkedFile},
    grep_position::GrepPosition,
    grep_search::{GrepBounds, GrepSearch},
    read_file::open_file,
    stat_file::parse_path,
};
use crate::{
    app::App,
    control::{namespace, page_token, refusal::Refusal},
    limits::{places::Places, turns::Scarce},
};
use bytes::Bytes;
use regex::bytes::{Regex, RegexBuilder};
use std::time::{Duration, Instant};
use taskyard_core::{id::SessionUid, vfs::SessionPath};
use taskyard_proto::v1::{GrepRequest, GrepResponse, GrepStop};

const MAX_PATTERN_BYTES: usize = 1_000;
/// What a compiled pattern may take; it bounds the time for each byte as well.
const MAX_COMPILED_BYTES: usize = 256 << 10;
/// What the search may cache beside it.
const MAX_CACHE_BYTES: usize = 1 << 20;
const MAX_CONTEXT_LINES: i32 = 20;
const MATCHES: Bound = Bound::new("max_matches", 100, 1_000);
const FILES: Bound = Bound::new("max_files", 1_000, 10_000);
const SCAN_BYTES: Bound = Bound::new("max_scan_bytes", 5 << 20, 64 << 20);
/// Longest search.
const MAX_TIME: Duration = Duration::from_secs(10);
/// What of a file tells whether it is binary.
const PROBED_BYTES: usize = 8 << 10;
/// Searches at a time, and the longest wait for one to end.
static SEARCHES: Places = Places::new(Scarce::FileSearch);
const PATIENCE: Duration = Duration::from_secs(10);

/// Searches the files at and below a path, in the order of [`FileWalk`], until a bound is met.
///
/// # Errors
/// [`Refusal::NotFound`] for the session or the path, [`Refusal::InvalidPath`], [`Refusal::InvalidField`] for a pattern
/// that is none, too long or too large once compiled, and for bounds out of range; [`Refusal::BadToken`],
/// [`Refusal::Overloaded`], [`Refusal::ShuttingDown`], [`Refusal::Store`].
pub async fn grep_files(app: &App, request: &GrepRequest) -> Result<GrepResponse, Refusal> {
    let path = match request.path.as_str() {
        "" => "/",
        path => path,
    };
    let path = parse_path(path)?;
    let regex = compile(request)?;
    if !(0..=MAX_CONTEXT_LINES).contains(&request.context_lines) {
        return Err(Refusal::invalid(
            "context_lines",
            format!("must be from 0 to {MAX_CONTEXT_LINES}"),
        ));
    }
    let bounds = GrepBounds {
        context_lines: request.context_lines.unsigned_abs() as usize,
        matches: MATCHES.read(request.max_matches.into())? as usize,
        bytes: SCAN_BYTES.read(request.max_scan_bytes)?,
        deadline: Instant::now() + MAX_TIME,
    };
    let max_files = FILES.read(request.max_files.into())?;
    let session = namespace::find_session(app, &request.namespace, &request.session_id).await?;
    let uid = session.0.to_string();
    let flags = format!("{} {}", request.literal, request.ignore_case);
    let scope = ["grep", &uid, path.as_str(), &request.pattern, &flags];
    let from = match page_token::decode(&scope, &request.page_token)? {
        None => None,
        Some(text) => Some(GrepPosition::from_text(&text)?),
    };
    let _place = SEARCHES.take(PATIENCE).await?;
    let run = GrepRun {
        app,
        session,
        search: GrepSearch::new(regex, bounds),
        answer: GrepResponse::default(),
    };
    let (search, mut answer) = run.carry_out(&path, from, max_files).await?;
    let outcome = search.finish();
    answer.matches = outcome.found;
    answer.bytes_scanned = i64::try_from(outcome.bytes).unwrap_or(i64::MAX);
    answer.long_lines = outcome.long_lines;
    if let Some((why, position, offset)) = outcome.stop {
        answer.stopped_by = why.into();
        answer.next_page_token = page_token::encode(&scope, &position.to_text());
        answer.stopped_path = position.place.path;
        answer.stopped_offset = i64::try_from(offset).unwrap_or(i64::MAX);
    }
    Ok(answer)
}

struct GrepRun<'a> {
    app: &'a App,
    session: SessionUid,
    search: GrepSearch,
    answer: GrepResponse,
}

impl GrepRun<'_> {
    async fn carry_out(
        mut self,
        path: &SessionPath,
        mut from: Option<GrepPosition>,
        max_files: u64,
    ) -> Result<(GrepSearch, GrepResponse), Refusal> {
        let place = from.as_ref().map(|position| &position.place);
        let mut walk = FileWalk::start(self.app, self.session, path, place).await?;
        while let Some(file) = walk.next_file().await? {
            if self.app.shutdown.is_cancelled() {
                return Err(Refusal::ShuttingDown);
            }
            let bound = if self.answer.files_scanned.unsigned_abs() >= max_files {
                Some(GrepStop::Files)
            } else {
                self.search.bound_met()
            };
            if let Some(bound) = bound {
                self.search.stop_before(bound, file.place);
                break;
            }
            self.search_file(file, from.take()).await?;
            if self.search.is_over() {
                break;
            }
        }
        Ok((self.search, self.answer))
    }

    /// Searches one file; one that is gone by now is passed over.
    async fn search_file(
        &mut self,
        file: WalkedFile,
        from: Option<GrepPosition>,
    ) -> Result<(), Refusal> {
        let from = from.filter(|from| from.place == file.place);
        let offset = from.as_ref().map_or(0, |from| from.offset);
        let Some(mut reader) = self.open(&file.place.path, offset).await? else {
            return Ok(());
        };
        let version = reader.file().version;
        let position = match from {
            Some(from) if from.version == version => from,
            Some(_) => match self.open(&file.place.path, 0).await? {
                Some(from_start) => {
                    reader = from_start;
                    GrepPosition::start_of(file.place, reader.file().version)
                }
                None => return Ok(()),
            },
            None => GrepPosition::start_of(file.place, version),
        };
        self.answer.files_scanned += 1;
        let is_start = position.offset == 0;
        self.search.begin_file(position);
        let mut is_first = is_start;
        loop {
            let data = match reader.next_part().await {
                Ok(Some(part)) => part.data,
                Ok(None) => break,
                Err(Refusal::FileChanged { .. }) => {
                    self.answer.changed_files += 1;
                    break;
                }
                Err(refusal) => return Err(refusal),
            };
            let is_binary = |data: &Bytes| data[..data.len().min(PROBED_BYTES)].contains(&0);
            if std::mem::take(&mut is_first) && is_binary(&data) {
                self.answer.binary_files += 1;
                break;
            }
            // beside the calls of others: a pattern may be slow
            tokio::task::block_in_place(|| self.search.feed(&data));
            if self.search.is_over() {
                return Ok(());
            }
        }
        self.search.end_file();
        Ok(())
    }

    async fn open(&self, path: &str, offset: u64) -> Result<Option<FileReader>, Refusal> {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        match open_file(self.app, self.session, path, offset, 0).await {
            Ok(reader) => Ok(Some(reader)),
            Err(
                Refusal::NotFound { .. }
                | Refusal::WrongFileType { .. }
                | Refusal::FileChanged { .. },
            ) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}

fn compile(request: &GrepRequest) -> Result<Regex, Refusal> {
    let length = request.pattern.len();
    if !(1..=MAX_PATTERN_BYTES).contains(&length) {
        return Err(Refusal::invalid(
            "pattern",
            format!("must have 1 to {MAX_PATTERN_BYTES} bytes, and has {length}"),
        ));
    }
    let pattern = if request.literal {
        regex::escape(&request.pattern)
    } else {
        request.pattern.clone()
    };
    RegexBuilder::new(&pattern)
        .case_insensitive(request.ignore_case)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_CACHE_BYTES)
        .build()
        .map_err(|error| Refusal::invalid("pattern", why_bad(&error)))
}

fn why_bad(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            "is too large once compiled; repeat less, or search in steps".to_owned()
        }
        // the crate draws the pattern over several lines; the last one says what is wrong
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            format!(
                "must be a regular expression: {reason}; set `literal` to search for the text as it is"
            )
        }
    }
}

/// A bound that a request may set.
struct Bound {
    field: &'static str,
    default: u64,
    most: u64,
}

impl Bound {
    const fn new(field: &'static str, default: u64, most: u64) -> Self {
        Self {
            field,
            default,
            most,
        }
    }

    fn read(&self, asked: i64) -> Result<u64, Refusal> {
        match u64::try_from(asked) {
            Ok(0) => Ok(self.default),
            Ok(asked) if asked <= self.most => Ok(asked),
            Ok(_) | Err(_) => Err(Refusal::invalid(
                self.field,
                format!("must be 1 to {}, or 0 for {}", self.most, self.default),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(pattern: &str, literal: bool) -> Result<Regex, Refusal> {
        compile(&GrepRequest {
            pattern: pattern.to_owned(),
            literal,
            ..GrepRequest::default()
        })
    }

    #[test]
    fn bad_patterns_are_refused_with_a_reason() {
        for (text, reason) in [
            ("", "1 to 1000 bytes"),
            ("(", "unclosed group"),
            ("a(?=b)", "look-around"),
            (r"\w{500}{500}", "too large"),
        ] {
            let refused = pattern(text, false).expect_err(text).to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(pattern("(", true).is_ok());
        assert!(pattern(&"x".repeat(1_001), true).is_err());
    }

    #[test]
    fn bounds_have_a_default_and_an_end() {
        assert_eq!(SCAN_BYTES.read(0).ok(), Some(5 << 20));
        assert_eq!(SCAN_BYTES.read(64 << 20).ok(), Some(64 << 20));
        assert!(SCAN_BYTES.read((64 << 20) + 1).is_err() && FILES.read(-1).is_err());
    }
}

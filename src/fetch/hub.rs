//! The hub: which commit, which files, and where the bytes of one are.

use crate::Error;
use crate::curl::{Answer, Head, Request};
use crate::digest::{Digest, of_listing};
use crate::error::Size;
use crate::name::{is_commit, is_safe};
use crate::patience::{Patience, Trouble};
use crate::settings::Settings;
use crate::source::Source;
use crate::url::{Url, escaped};
use serde::Deserialize;

/// Most bytes of an answer with a list.
const LONGEST_LIST: u64 = 16 << 20;
/// Most pages of one.
const MOST_PAGES: usize = 100;
/// Redirects that are followed.
pub(crate) const MOST_REDIRECTS: usize = 5;

/// A file as the hub lists it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) digest: Digest,
}

/// Where bytes are.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) url: Url,
    /// Whether that is the hub, which gets the token.
    pub(crate) is_hub: bool,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// Who is asked for lists of files.
pub(crate) struct Hub<'s> {
    settings: &'s Settings,
}

impl<'s> Hub<'s> {
    pub(crate) fn new(settings: &'s Settings) -> Hub<'s> {
        let Settings { endpoint, token, .. } = settings;
        if token.is_some() && !endpoint.is_secure() && !endpoint.is_loopback() {
            log::warn!("{endpoint}: without TLS, so that the token can be read on its way");
        }
        Hub { settings }
    }

    /// The hub itself.
    pub(crate) fn endpoint(&self) -> &Url {
        &self.settings.endpoint
    }

    /// Whether somebody else does not answer there.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        url.is_same_origin(&self.settings.endpoint)
    }

    /// The commit that a revision is at the moment.
    pub(crate) fn commit(&self, source: &Source) -> Result<String, Error> {
        let url = self.api(source, "revision", &source.revision);
        let (text, _) = self.list(&url, source)?;
        let revision: Revision =
            serde_json::from_str(&text).map_err(|error| no_list(&url, &error))?;
        if is_commit(&revision.sha) {
            Ok(revision.sha)
        } else {
            Err(Error::hub(&url, "answers with something that is no commit"))
        }
    }

    /// All files of a commit.
    pub(crate) fn files(&self, source: &Source, commit: &str) -> Result<Vec<Entry>, Error> {
        let first = format!("{}?recursive=true", self.api(source, "tree", commit).whole());
        let mut next = Some(Url::parse(&first, "tree")?);
        let mut files = Vec::new();
        for _ in 0..MOST_PAGES {
            let Some(url) = next.take() else { return Ok(files) };
            let (text, link) = self.list(&url, source)?;
            let page: Vec<Listed> =
                serde_json::from_str(&text).map_err(|error| no_list(&url, &error))?;
            for listed in page.into_iter().filter(|listed| listed.kind == "file") {
                files.push(entry(listed, &url)?);
            }
            next = link.map(|link| url.join(&link)).transpose()?;
            if next.as_ref().is_some_and(|next| !self.is_at(next)) {
                return Err(Error::hub(&url, "goes on somewhere else"));
            }
        }
        Err(Error::hub(first, format_args!("has more than {MOST_PAGES} pages")))
    }

    /// Where a file's bytes are. The hub is asked, and whom it names is not.
    pub(crate) fn locate(
        &self,
        source: &Source,
        commit: &str,
        entry: &Entry,
    ) -> Result<Location, Trouble> {
        let parts = ["resolve", commit].into_iter().map(String::from);
        let path = entry.path.split('/').map(escaped);
        let mut url = self.repository(source, [], parts.chain(path));
        for _ in 0..MOST_REDIRECTS {
            let Answer { head, body } = self.request(&url, true).send()?;
            drop(body);
            agree(&url, &head, commit, entry)?;
            let Some(location) = head.redirect() else {
                return match head.status {
                    200 => Ok(Location { url, is_hub: true }),
                    _ => Err(self.refused(&url, &head, source)),
                };
            };
            let next = url.join(location)?;
            if !self.is_at(&next) {
                return Ok(Location { url: next, is_hub: false });
            }
            url = next;
        }
        Err(Error::hub(&url, "leads from redirect to redirect").into())
    }

    /// A request of the hub, which gets the token.
    pub(crate) fn request<'r>(&'r self, url: &'r Url, is_head: bool) -> Request<'r> {
        let Settings { endpoint, token, limits, .. } = self.settings;
        let token = token.as_ref().filter(|_| self.is_at(url));
        Request {
            url,
            token,
            is_head,
            range: None,
            may_be_plain: !endpoint.is_secure(),
            limits: *limits,
        }
    }

    /// What an answer other than the expected one means.
    pub(crate) fn refused(&self, url: &Url, head: &Head, source: &Source) -> Trouble {
        let (status, code) = (head.status, head.get("x-error-code").unwrap_or_default());
        if status == 408 || status == 429 || status >= 500 {
            let reason = match status {
                429 => "asked too often (429)".into(),
                _ => format!("the server cannot answer ({status})"),
            };
            return Trouble::Passing { reason, after: head.retry_after() };
        }
        let repository = &source.repository;
        let said = match (status, code, &self.settings.token) {
            (_, "GatedRepo", _) => format!(
                "{repository} is gated ({status}): accept its terms on its page, and give a token in HF_TOKEN"
            ),
            (401, _, None) => format!(
                "{repository} is not there or wants a token (401): check the name, or give a token in HF_TOKEN or the \
                 file that HF_TOKEN_PATH names"
            ),
            (401, ..) => format!(
                "the token is not accepted (401): check HF_TOKEN, or is {repository} the right name?"
            ),
            (403, ..) => format!("the token gives no right to {repository} (403)"),
            (404, "RevisionNotFound", _) => {
                format!("{repository} has no revision {:?} (404)", source.revision)
            }
            (404, ..) => format!("{source} is not there (404): check the name"),
            _ => format!("an answer with status 200 expected, {status} found"),
        };
        Error::hub(url, said).into()
    }

    /// A list, and where it goes on.
    fn list(&self, url: &Url, source: &Source) -> Result<(String, Option<String>), Error> {
        let mut patience = Patience::new(self.settings.limits);
        loop {
            match self.ask(url, source) {
                Ok(found) => return Ok(found),
                Err(trouble) => patience.wait(url, trouble, &|| false)?,
            }
        }
    }

    fn ask(&self, url: &Url, source: &Source) -> Result<(String, Option<String>), Trouble> {
        let mut url = url.clone();
        for _ in 0..MOST_REDIRECTS {
            let Answer { head, body } = self.request(&url, false).send()?;
            if head.status == 200 {
                let next = head.get("link").and_then(next_of);
                return Ok((body.text(&url, LONGEST_LIST)?, next));
            }
            // A repository that has another name now.
            let Some(location) = head.redirect() else {
                return Err(self.refused(&url, &head, source));
            };
            url = url.join(location)?;
        }
        Err(Error::hub(&url, "leads from redirect to redirect").into())
    }

    fn api(&self, source: &Source, what: &str, revision: &str) -> Url {
        self.repository(source, ["api", "models"], [what.to_owned(), escaped(revision)])
    }

    fn repository<const N: usize>(
        &self,
        source: &Source,
        before: [&str; N],
        after: impl IntoIterator<Item = String>,
    ) -> Url {
        let after: Vec<String> = after.into_iter().collect();
        let repository = source.repository.split('/');
        self.settings
            .endpoint
            .below(before.into_iter().chain(repository).chain(after.iter().map(String::as_str)))
    }
}

fn no_list(url: &Url, error: &serde_json::Error) -> Error {
    Error::hub(url, format_args!("answers with something else than the hub's JSON: {error}"))
}

/// A file that may be put somewhere.
fn entry(listed: Listed, url: &Url) -> Result<Entry, Error> {
    let Listed { path, size, oid, lfs, .. } = listed;
    if !is_safe(&path) {
        let reason =
            format_args!("lists a file called {path:?}, which does not stay in its folder");
        return Err(Error::hub(url, reason));
    }
    let digest = of_listing(&oid, lfs.as_ref().map(|lfs| &*lfs.oid), &path)?;
    Ok(Entry { path, size: lfs.map_or(size, |lfs| lfs.size), digest })
}

/// Fails if what the hub says of a file now is not what it listed.
fn agree(url: &Url, head: &Head, commit: &str, entry: &Entry) -> Result<(), Error> {
    let differs = |what: &str, found: &str, expected: &str| {
        Error::hub(url, format_args!("{what} {expected} expected, {found} found"))
    };
    if let Some(size) = head.get("x-linked-size")
        && size.parse() != Ok(entry.size)
    {
        let listed = format!("{} ({} bytes)", Size(entry.size), entry.size);
        return Err(differs("a size of", size, &listed));
    }
    let etag =
        head.get("x-linked-etag").map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    if let Some(etag) = etag.filter(|etag| *etag != entry.digest.hex()) {
        return Err(differs("checksum", etag, entry.digest.hex()));
    }
    match head.get("x-repo-commit").filter(|found| *found != commit) {
        Some(found) => Err(differs("commit", found, commit)),
        None => Ok(()),
    }
}

/// The next page, of a header such as `<https://…>; rel="next"`.
fn next_of(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_on_where_they_say() {
        assert_eq!(next_of("<https://h/a?b>; rel=\"next\"").as_deref(), Some("https://h/a?b"));
        assert_eq!(next_of("</p>; rel=\"prev\", </n>; rel=\"next\"").as_deref(), Some("/n"));
        assert_eq!(next_of("</p>; rel=\"prev\""), None);
    }
}

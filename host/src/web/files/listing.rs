//! A directory as a page of links: for directories without an index file, if the operator enables listings.
//!
//! Lists only what would be served: every name is opened as for a request, so the page reveals nothing hidden, nothing
//! unreadable and no link that leads outside. Plain HTML without script or style.

use std::io;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::below::Subdirectory;
use super::open::{Found, Root};
use super::path::{encoded, is_served};

/// The maximum number of names that are read and listed; the page says if there are more. Opening this many takes about
/// 30 ms.
const MAX_NAMES: usize = 10_000;

/// A line of the page. Sorts as on the page: directories first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListingEntry {
    is_file: bool,
    name: Vec<u8>,
    file: Option<(u64, SystemTime)>,
}

/// The page for the directory `name`, in UTF-8.
pub(super) fn page(root: &Root, name: &[u8], directory: &Subdirectory) -> io::Result<Vec<u8>> {
    let mut names = directory.names(MAX_NAMES + 1)?;
    let is_cut = names.len() > MAX_NAMES;
    names.truncate(MAX_NAMES);
    let names = names.into_iter().filter(|name| is_served(name));
    let mut lines: Vec<ListingEntry> = names.filter_map(|it| line(root, name, it)).collect();
    lines.sort_unstable();
    Ok(written(name, &lines, is_cut).into_bytes())
}

fn line(root: &Root, directory: &[u8], name: Vec<u8>) -> Option<ListingEntry> {
    let path = match directory {
        b"" => name.clone(),
        directory => [directory, &name].join(&b'/'),
    };
    let file = match root.look_up(&path).ok()? {
        Found::File(file) => Some((file.len, file.modified)),
        Found::Directory(_) => None,
    };
    Some(ListingEntry {
        is_file: file.is_some(),
        name,
        file,
    })
}

fn written(name: &[u8], lines: &[ListingEntry], is_cut: bool) -> String {
    let title = match name {
        b"" => "/".to_owned(),
        name => format!("/{}/", escaped(name)),
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Index of {title}</title>\n</head>\n\
         <body>\n<h1>Index of {title}</h1>\n<table>\n\
         <tr><th align=\"left\">Name</th><th align=\"right\">Bytes</th><th align=\"left\">Modified (UTC)</th></tr>\n"
    );
    if !name.is_empty() {
        page.push_str("<tr><td><a href=\"../\">../</a></td></tr>\n");
    }
    for line in lines {
        let (href, shown) = (encoded(&line.name), escaped(&line.name));
        page.push_str(&match line.file {
            None => format!("<tr><td><a href=\"./{href}/\">{shown}/</a></td></tr>\n"),
            Some((len, modified)) => format!(
                "<tr><td><a href=\"./{href}\">{shown}</a></td><td align=\"right\">{len}</td><td>{}</td></tr>\n",
                minute(modified)
            ),
        });
    }
    page.push_str("</table>\n");
    if is_cut {
        page.push_str(&format!(
            "<p>Only the first {MAX_NAMES} names are listed.</p>\n"
        ));
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn minute(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(
        |_| String::new(),
        |time| {
            let time = time.to_zoned(TimeZone::UTC);
            time.strftime("%Y-%m-%d %H:%M").to_string()
        },
    )
}

/// HTML text; bytes that are not UTF-8 are replaced.
fn escaped(name: &[u8]) -> String {
    let mut out = String::new();
    for character in String::from_utf8_lossy(name).chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::fixtures::Site;
    use super::*;

    fn page_of(site: &Site, name: &str) -> String {
        let root = Root::open(&site.config()).unwrap();
        let Ok(Found::Directory(directory)) = root.look_up(name.as_bytes()) else {
            panic!("{name} is a directory");
        };
        String::from_utf8(page(&root, name.as_bytes(), &directory).unwrap()).unwrap()
    }

    /// The links of a page.
    fn links(page: &str) -> Vec<&str> {
        let links = page.split("href=\"").skip(1);
        links.map(|link| link.split('"').next().unwrap()).collect()
    }

    #[test]
    fn served_files_alone_are_listed_in_order() {
        let site = Site::new("listing");
        for name in ["d/b.txt", "d/a.txt", "d/Z", "d/z dir/x", "d/.hidden"] {
            site.write(name, "12345");
        }
        symlink("a.txt", site.root().join("d/inside")).unwrap();
        symlink("../../secret", site.root().join("d/outside")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(site.root().join("d/socket"));
        let page = page_of(&site, "d");
        drop(socket);
        assert_eq!(
            links(&page),
            ["../", "./z%20dir/", "./Z", "./a.txt", "./b.txt", "./inside"]
        );
        assert!(page.contains("<td align=\"right\">5</td>"));
        assert!(!links(&page_of(&site, "")).contains(&"../"));
    }

    #[test]
    fn names_are_escaped() {
        let site = Site::new("escaped");
        site.write("<b>&\"'?#%.txt", "");
        site.write("äö", "");
        let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
        std::fs::write(site.root().join(odd), "").unwrap();
        let page = page_of(&site, "");
        assert!(page.contains("&lt;b&gt;&amp;&quot;&#39;?#%.txt</a>"));
        assert_eq!(
            links(&page),
            [
                "./%3Cb%3E%26%22%27%3F%23%25.txt",
                "./odd%FF",
                "./%C3%A4%C3%B6"
            ]
        );
    }

    #[test]
    fn names_that_only_windows_forbids_are_listed_with_working_links() {
        let site = Site::new("listing-odd");
        for name in ["a:b", "back\\slash", "con.txt", "end.", "space ", "http:/x"] {
            site.write(name, "");
        }
        let expected = [
            "./http%3A/",
            "./a%3Ab",
            "./back%5Cslash",
            "./con.txt",
            "./end.",
            "./space%20",
        ];
        assert_eq!(links(&page_of(&site, "")), expected);
    }

    #[test]
    fn times_are_in_utc() {
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(minute(time), "1994-11-06 08:49");
    }
}

use super::*;
use std::io::Read as _;

#[test]
fn gzip_is_made_where_it_pays_and_is_the_same_every_time() {
    let text = "all work and no play ".repeat(100);
    let coded = gzip("text/plain; charset=utf-8", text.as_bytes()).expect("it pays");
    assert_eq!(
        Some(&coded),
        gzip("text/plain; charset=utf-8", text.as_bytes()).as_ref()
    );
    assert_eq!(coded[4..8], [0; 4], "no time in it");
    let mut back = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&coded[..]);
    decoder.read_to_string(&mut back).expect("gzip");
    assert_eq!(back, text);
}

#[test]
fn gzip_is_left_out_where_it_does_not_pay() {
    let text = "a".repeat(GZIP_BYTES_MIN - 1);
    assert!(gzip("text/plain", text.as_bytes()).is_none(), "too small");
    let text = "a".repeat(1000);
    assert!(
        gzip("image/png", text.as_bytes()).is_none(),
        "coded already"
    );
    let noise: Vec<u8> = (0_u32..500)
        .flat_map(|i| Digest::of(&i.to_le_bytes()).as_bytes()[..2].to_vec())
        .collect();
    assert!(gzip("text/plain", &noise).is_none(), "saves nothing");
}

#[test]
fn types_follow_the_name_and_promise_utf8_only_where_it_is() {
    let typed = |path, content: &[u8]| content_type(path, content);
    assert_eq!(typed("/a.html", b"x"), "text/html; charset=utf-8");
    assert_eq!(typed("/a.html", b"\xff"), "text/html");
    assert_eq!(typed("/a.JS", b"x"), "text/javascript; charset=utf-8");
    assert_eq!(typed("/a.wasm", b"x"), "application/wasm");
    assert_eq!(typed("/a.b/readme", b"x"), "application/octet-stream");
    assert_eq!(typed("/a.png", b"x"), "image/png");
}

#[test]
fn a_folder_gives_its_files_and_its_index_but_no_leftovers() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("docs/.well-known")).expect("folders");
    for name in [
        "index.html",
        "docs/index.html",
        "docs/a~",
        ".DS_Store",
        "docs/.well-known/x",
    ] {
        fs::write(folder.path().join(name), name).expect("a file");
    }
    let collected = collect(folder.path(), "/s/");
    let paths: Vec<_> = collected.assets.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "/s/",
            "/s/docs/",
            "/s/docs/.well-known/x",
            "/s/docs/index.html",
            "/s/index.html"
        ]
    );
    assert!(collected.faults.is_empty());
}

#[test]
fn a_symbolic_link_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/etc/hostname", folder.path().join("leak")).expect("a link");
    let collected = collect(folder.path(), "/");
    assert_eq!(collected.faults.len(), 1);
    assert!(collected.assets.is_empty());
}

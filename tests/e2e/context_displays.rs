//! What cells show, in all its forms.

use crate::harness::*;

/// The MIME types of a display, in order.
fn mime_types(display: &v1::Display) -> Vec<&str> {
    let mut types: Vec<_> = display.data.keys().map(String::as_str).collect();
    types.sort_unstable();
    types
}

#[tokio::test]
async fn a_value_is_shown_in_all_its_forms() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = r#"
class Rich:
    def __repr__(self): return "plain"
    def _repr_html_(self): return "<b>html</b>"
    def _repr_markdown_(self): return "*markdown*"
    def _repr_latex_(self): return "$latex$"
    def _repr_svg_(self): return "<svg/>"
    def _repr_png_(self): return b"png", {"width": 3}
    def _repr_jpeg_(self): return "anBlZw=="
    def _repr_json_(self): return {"a": [1, 2]}
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": "of the bundle", "application/x.own+json": {"b": 1}}, {"text/html": {"c": 2}}
    def _repr_html_(self): return "its own"
class Itself:
    def _ipython_display_(self): display("itself")
display(Bundle(), metadata={"d": 3})
display({"text/plain": "raw"}, raw=True)
Itself()
"#;
    let done = cell(source, &context).run(&client).await.printed("");
    let [bundle, raw, itself] = &done.displays[..] else {
        panic!("{} displays", done.displays.len());
    };
    assert_eq!(bundle.data["text/html"], "of the bundle");
    assert_eq!(bundle.data["application/x.own+json"], "{\"b\": 1}");
    assert_eq!(bundle.metadata, r#"{"text/html": {"c": 2}, "d": 3}"#);
    assert_eq!(
        (mime_types(raw), raw.is_result),
        (vec!["text/plain"], false)
    );
    assert_eq!(itself.data["text/plain"], "'itself'");

    let done = cell("Rich()", &context).run(&client).await.printed("");
    let [rich] = &done.displays[..] else {
        panic!("{} displays", done.displays.len());
    };
    assert!(rich.is_result);
    for (mime_type, data) in [
        ("text/plain", "plain"),
        ("text/html", "<b>html</b>"),
        ("text/markdown", "*markdown*"),
        ("text/latex", "$latex$"),
        ("image/svg+xml", "<svg/>"),
        ("image/png", "png"),
        ("image/jpeg", "jpeg"),
        ("application/json", r#"{"a": [1, 2]}"#),
    ] {
        assert_eq!(rich.data[mime_type], data, "{mime_type}");
    }
    assert_eq!(rich.metadata, r#"{"image/png": {"width": 3}}"#);
    assert!(done.usage().display_bytes > 0);
    // A class is not one of its values.
    let done = cell("Rich", &context).run(&client).await.printed("");
    assert_eq!(mime_types(&done.displays[0]), ["text/plain"]);
    // Another interpreter could not find it.
    let pickled = "import pickle\ntry: pickle.dumps(display)\nexcept Exception: print('refused')";
    let done = cell(pickled, &context).run(&client).await;
    done.printed("refused\n");
    named.delete().await;
}

#[tokio::test]
async fn figures_tables_and_images_are_shown_as_in_a_notebook() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "import matplotlib.pyplot as plt\nfor n in range(2):\n    plt.figure(); plt.plot([1, n])\n\
                  print('drawn')\nplt.show()\nprint('shown')\nfigure, axes = plt.subplots()\nlen(plt.get_fignums())";
    let done = cell(source, &context).timeout(PATIENCE).run(&client).await;
    let done = done.exited(0);
    assert_eq!(done.out(), "drawn\nshown\n");
    let kinds: Vec<_> = done.displays.iter().map(mime_types).collect();
    let figure = vec!["image/png", "text/plain"];
    assert_eq!(
        kinds,
        [figure.clone(), figure.clone(), vec!["text/plain"], figure]
    );
    assert_eq!(done.displays[2].data["text/plain"], "1");
    for shown in [0, 1, 3] {
        assert!(done.displays[shown].data["image/png"].starts_with(b"\x89PNG"));
    }
    assert_eq!(
        [0, 1].map(|shown| done.displays[shown].stdout_offset),
        [6, 6]
    );
    assert_eq!(done.displays[3].stdout_offset, 12);
    // One that is the value is shown once, and all are closed in the end.
    let done = cell("plt.figure().gca().figure", &context)
        .run(&client)
        .await
        .exited(0);
    assert_eq!(done.displays.len(), 1);
    let done = cell("plt.get_fignums()", &context)
        .run(&client)
        .await
        .exited(0);
    assert_eq!(done.shown(), ["[]"]);

    // Those of a cell that failed are its own.
    let done = cell("plt.plot([1]); 1/0", &context)
        .run(&client)
        .await
        .exited(1);
    assert_eq!(done.displays.len(), 1);
    let done = cell("1", &context).run(&client).await.exited(0);
    assert_eq!(done.shown(), ["1"]);

    let source = "import pandas\npandas.DataFrame({'a': [1, 2]})";
    let done = cell(source, &context)
        .timeout(PATIENCE)
        .run(&client)
        .await
        .exited(0);
    let html = &done.displays[0].data["text/html"];
    assert!(html.windows(6).any(|it| it == b"<table"), "{}", done.err());
    let done = cell("from PIL import Image\nImage.new('RGB', (2, 2))", &context);
    let done = done.timeout(PATIENCE).run(&client).await.exited(0);
    assert!(done.displays[0].data["image/png"].starts_with(b"\x89PNG"));
    named.delete().await;
}

#[tokio::test]
async fn what_ipython_displays_is_displayed() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "from IPython.display import HTML, Image, JSON, Markdown, display\n\
                  display(HTML('<i>'), Markdown('*m*'))\n\
                  Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + bytes(20), format='png')";
    let done = cell(source, &context).timeout(PATIENCE).run(&client).await;
    let done = done.printed("");
    let [html, markdown, image] = &done.displays[..] else {
        panic!("{} displays", done.displays.len());
    };
    assert_eq!(html.data["text/html"], "<i>");
    assert_eq!(markdown.data["text/markdown"], "*m*");
    assert!(image.data["image/png"].starts_with(b"\x89PNG"));
    named.delete().await;
}

#[tokio::test]
async fn displays_stand_where_they_were_shown_between_the_output() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "import sys\nfor n in range(500):\n    print('o' * n)\n    print('e' * n, file=sys.stderr)\n    display(n)";
    let done = cell(source, &context).run(&client).await.exited(0);
    let mut written = 0;
    for (n, display) in done.displays.iter().enumerate() {
        written += n as u64 + 1;
        let offsets = (display.stdout_offset, display.stderr_offset);
        assert_eq!(offsets, (written, written), "{n}");
    }
    assert_eq!(done.displays.len(), 500);
    named.delete().await;
}

#[tokio::test]
async fn a_form_that_is_too_large_is_left_out_and_named() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    let context = named.context().await;
    let source = "class Large:\n    def __init__(self, size): self.size = size\n    def __repr__(self): return 'large'\n    \
                  def _repr_html_(self): return 'x' * self.size\nLarge(100_000_000)";
    let done = cell(source, &context).run(&client).await.printed("");
    let display = &done.displays[0];
    assert_eq!(mime_types(display), ["text/plain"]);
    let expected = v1::OmittedForm {
        mime_type: "text/html".into(),
        bytes: 100_000_000,
    };
    assert_eq!(display.omitted, [expected]);
    let done = cell("Large(3_000_000)", &context)
        .run(&client)
        .await
        .printed("");
    assert_eq!(done.displays[0].data["text/html"].len(), 3_000_000);
    // More of them than the output's limit are the end of the cell, and not of the context.
    let loud = cell("while True: display(Large(3_000_000))", &context);
    let done = loud
        .limits(|it| it.output_bytes = 8 << 20)
        .run(&client)
        .await;
    assert!(
        matches!(done.outcome(), v1::finished::Outcome::OutputLimit(_)),
        "{}",
        done.describe()
    );
    assert!(!done.finished.unwrap().context_ended);
    let whole = cell("Large(10)", &context)
        .run_whole(&client, true)
        .await
        .unwrap();
    assert_eq!(whole.displays[0].text["text/html"], "xxxxxxxxxx");
    assert!(whole.displays[0].data.is_empty());
    named.delete().await;
}

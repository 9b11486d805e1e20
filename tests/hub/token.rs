//! To whom the token is sent.

use crate::command;
use crate::program::{Run, Scratch};
use crate::server::{Answer, Hub, Request};

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    // The repository was renamed: its new address needs the token, too.
    let hub = Hub::with(|request, hub| match request.path.strip_suffix("?renamed") {
        Some(path) => Some(hub.answer(&Request {
            path: path.to_owned(),
            ..request.clone()
        })),
        None if request.is_listing() => Some(Answer::redirect(format!("{}?renamed", request.path))),
        None => None,
    });
    let scratch = Scratch::new();
    scratch.write("hf/token", "hf_from_file\n");
    let run = Run::of(command(&scratch, &hub, &["-v"]).env("HF_TOKEN", "hf_secret")).success();
    assert!(!(run.stdout + &run.stderr).contains("hf_secret"));
    let requests = hub.requests();
    assert!(requests.iter().any(|request| request.is_cdn));
    for request in requests {
        let token = request.headers.get("authorization").map(String::as_str);
        let expected = (!request.is_cdn).then_some("Bearer hf_secret");
        assert_eq!(token, expected, "{}", request.path);
    }
}

#[test]
fn the_token_is_not_sent_where_others_could_read_it() {
    // This machine by an address that is not told from another machine's.
    let run = |hub: &Hub, scratch: &Scratch| {
        let endpoint = hub.endpoint.replace("127.0.0.1", "0.0.0.0");
        let mut command = command(scratch, hub, &["--load-format", "dummy"]);
        Run::of(
            command
                .env("HF_ENDPOINT", endpoint)
                .env("HF_TOKEN", "hf_secret"),
        )
    };
    let (scratch, hub) = (Scratch::new(), Hub::start());
    run(&hub, &scratch).success();
    let requests = hub.requests();
    assert!(!requests.is_empty());
    assert!(
        !requests
            .iter()
            .any(|r| r.headers.contains_key("authorization"))
    );

    let hub = Hub::with(|_, _| Some(Answer::status(401)));
    let run = run(&hub, &Scratch::new());
    assert!(run.stderr.contains("hint: set HF_ENDPOINT to an https"));
    assert_eq!(
        run.failure(1),
        "error: test/tiny: HTTP 401: access denied; the token was not sent, since HF_ENDPOINT is not https"
    );
}

//! From the form to the copy.

use testkit::unique;

use super::Shown;

#[tokio::test]
async fn a_user_that_is_created_changed_and_deleted_on_the_page_is_seen_on_its_way_to_the_copy() {
    let mut shown = Shown::new().await;
    shown.create("Ada Lovelace", "ada@example.com").await;
    shown.both_sides_have(1).await;
    let in_copy = "document.querySelector('#event-rows tr[data-place=copy]') !== null";
    shown.browser.shows("the event in the copy", in_copy).await;
    let row = shown.browser.text_of("#event-rows tr").await;
    assert!(row.contains("user 1") && row.contains("ms"), "{row}");

    shown.browser.fill("#user-name", "Ada King").await;
    shown.browser.click("#save").await;
    shown.both_sides_have(2).await;
    let rows = shown.stack.converged().await;
    assert_eq!((rows[0].name.as_str(), rows[0].version), ("Ada King", 2));

    shown.browser.click("#delete").await;
    let deleted = "document.querySelector('#sides').textContent.includes('deleted')
        && document.querySelector('#change-result').textContent.includes('The copy has it')";
    shown
        .browser
        .shows("the deletion on both sides", deleted)
        .await;
    assert!(shown.stack.converged().await.is_empty());
    shown.is_clean().await;
}

#[tokio::test]
async fn a_list_that_is_paused_says_how_many_events_are_new_and_shows_them_when_it_goes_on() {
    let mut shown = Shown::new().await;
    let rows = |count: usize| {
        format!("document.querySelectorAll('#event-rows tr[data-event]').length === {count}")
    };
    shown.create("Ada", "ada@example.com").await;
    shown.browser.shows("the event", &rows(1)).await;
    shown.browser.click("#pause").await;
    let pressed = "document.querySelector('#pause').getAttribute('aria-pressed')";
    assert_eq!(shown.browser.evaluate(pressed).await, "true");
    shown.create("Eve", "eve@example.com").await;
    let told = "document.querySelector('#events-note').textContent === 'Paused: +1 new.'";
    shown.browser.shows("what is new", told).await;
    assert_eq!(shown.browser.evaluate(&rows(1)).await, true);

    assert_eq!(shown.browser.text_of("#pause").await, "Resume");
    shown.browser.click("#pause").await;
    shown.browser.shows("both events", &rows(2)).await;
    assert_eq!(shown.browser.evaluate(pressed).await, "false");
    shown.is_clean().await;
}

#[tokio::test]
async fn the_journey_of_an_event_is_shown_by_its_id_and_when_it_is_selected() {
    let mut shown = Shown::new().await;
    shown.create("Ada", "ada@example.com").await;
    shown.both_sides_have(1).await;
    let events = shown.stack.events().await;
    let (id, _) = events.first().expect("an event");

    shown.browser.fill("#journey-id", id).await;
    shown.browser.click("#journey-form button").await;
    let all = "[...document.querySelectorAll('#journey-steps li')].map((it) => it.dataset.state).join() === 'passed,passed,passed,passed'";
    shown.browser.shows("all steps", all).await;
    let steps = shown.browser.text_of("#journey-steps").await;
    assert!(steps.contains("Published as sequence 1"), "{steps}");
    assert!(
        !steps.contains('-'),
        "no step takes less than no time: {steps}"
    );

    shown.browser.fill("#journey-id", "").await;
    shown.browser.click("#event-rows button").await;
    let selected = format!("document.querySelector('#journey-id').value === '{id}'");
    shown.browser.shows("the selected event", &selected).await;
    shown.browser.shows("all steps again", all).await;
    shown.is_clean().await;
}

#[tokio::test]
async fn names_are_shown_as_text_whatever_they_are() {
    let mut shown = Shown::new().await;
    let long = "W".repeat(255);
    for (version, name) in [
        "<script>window.taken = 1</script><img src=x onerror='window.taken = 1'>",
        &long,
        "\u{202e}\u{5d3}\u{5d5}\u{5d3} drowssap",
    ]
    .into_iter()
    .enumerate()
    {
        shown.create(name, &format!("{version}@example.com")).await;
        let name = serde_json::to_string(name).expect("text");
        let cells = "[...document.querySelectorAll('#sides tr')][1].querySelectorAll('td')";
        let both = format!("[...{cells}].every((cell) => cell.textContent === {name})");
        shown.browser.shows("the name on both sides", &both).await;
        let fits = "document.documentElement.scrollWidth <= window.innerWidth";
        shown
            .browser
            .shows("no line wider than the page", fits)
            .await;
    }
    let harmless = "window.taken === undefined && document.querySelector('#sides script, #sides img') === null";
    shown.browser.shows("no name that runs", harmless).await;
    shown.is_clean().await;
}

#[tokio::test]
async fn a_user_is_created_without_a_mouse() {
    let mut shown = Shown::new().await;
    let at_name = "document.activeElement.id === 'user-name'";
    for _ in 0..40 {
        shown.browser.press("Tab").await;
        if shown.browser.evaluate(at_name).await == true {
            break;
        }
    }
    shown.browser.shows("the focus on the name", at_name).await;
    let visible = "getComputedStyle(document.activeElement).outlineStyle === 'solid'";
    shown.browser.shows("the focus", visible).await;
    shown.browser.insert("Grace Hopper").await;
    shown.browser.press("Tab").await;
    let email = format!("{}@example.com", unique("grace"));
    shown.browser.insert(&email).await;
    shown.browser.press("Tab").await;
    let at_button = "document.activeElement.id === 'create'";
    shown
        .browser
        .shows("the focus on the button", at_button)
        .await;
    shown.browser.press(" ").await;
    shown.both_sides_have(1).await;
    assert_eq!(shown.stack.converged().await[0].email, email);
    shown.is_clean().await;
}

//! The live page as a browser shows it, over the whole stack.

mod failing;
mod flow;
mod looks;
mod outages;

use testkit::{Proxy, browser::Browser};

use crate::support::{Api, Stack};

const CONTROLS_READY: &str =
    "document.querySelectorAll('#connections [data-state=open]').length === 2";

/// Both services and a browser that shows the page.
struct Shown {
    stack: Stack,
    users: Api,
    notifications: Api,
    /// The address that the page knows the notification service by, wherever that is.
    front: Proxy,
    browser: Browser,
}

impl Shown {
    /// Once both feeds are open.
    async fn new() -> Self {
        let mut shown = Self::with(Stack::new().await, &[]).await;
        shown.browser.shows("both feeds", CONTROLS_READY).await;
        shown
    }

    /// With further arguments for both services, and without waiting for the feeds.
    async fn with(stack: Stack, arguments: &[&str]) -> Self {
        let notifications = notifications(&stack, arguments).await;
        let front = Proxy::start(host(&notifications.url)).await;
        let copy_url = format!("http://{}", front.address());
        let to_copy = ["--live-copy-url", &copy_url];
        let users = stack.users(&[&to_copy[..], arguments].concat()).await;
        let browser = Browser::open(&format!("{}/live", users.url)).await;
        Self {
            stack,
            users,
            notifications,
            front,
            browser,
        }
    }

    /// Fills in the form and sends it.
    async fn create(&mut self, name: &str, email: &str) {
        self.browser.fill("#user-name", name).await;
        self.browser.fill("#user-email", email).await;
        self.browser.click("#create").await;
    }

    /// Waits until the page shows the same version of its user on both sides.
    async fn both_sides_have(&mut self, version: i64) {
        let expression = format!(
            "(() => {{ const cells = [...document.querySelectorAll('#sides tr')][3].querySelectorAll('td');
               return [...cells].every((cell) => cell.textContent === '{version}'); }})()"
        );
        self.browser.shows("both sides", &expression).await;
    }

    /// Nothing went wrong in the page, and nothing was asked of anybody else.
    async fn is_clean(&mut self) {
        let faults = self.browser.faults().await;
        assert!(faults.is_empty(), "{faults:?}");
        let copy = format!("http://{}", self.front.address());
        let known = [self.users.url.clone(), copy, "about:blank".to_owned()];
        for origin in self.browser.requested_origins().await {
            assert!(known.contains(&origin), "{origin} was asked");
        }
    }
}

/// A page of any origin may call it: which port the page is served on is known later.
async fn notifications(stack: &Stack, arguments: &[&str]) -> Api {
    let from_pages = ["serve", "--cors-origins", "*"];
    let arguments = [&from_pages[..], arguments].concat();
    Api::ready(stack.start("notification-service", &arguments)).await
}

fn host(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

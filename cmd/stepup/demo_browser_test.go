package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// startDemo runs the demo until the test ends and returns the address of its page.
func startDemo(t *testing.T) string {
	t.Helper()
	base := freePorts(t, 4)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var said logText
	go func() {
		stdin, _ := io.Pipe() // nobody types
		ended <- demoCmd{PortBase: base}.Run(&env{ctx: ctx, stdin: stdin, stdout: &said, stderr: &said, log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	})
	eventually(t, "the demo says where its page is", func() bool { return said.has("Enter asks somebody") })
	page := fmt.Sprintf("http://127.0.0.1:%d/", base+3)
	if !said.has("Open " + page) {
		t.Errorf("the demo does not name %s", page)
	}
	return page
}

// A newcomer presses the bank's button, answers on the phone, and sees the webhook come, each time differently.
func TestDemoInTheBrowser(t *testing.T) {
	page := startDemo(t)
	const wide, high = 1360, 900
	b := browse(t, page, wide, high)

	b.sees("#bank", "Press the button")
	b.sees("#phone", "Nothing to confirm")
	b.sees("#inbox", "No webhook yet")
	b.sees("#trail", "Nothing happened yet")
	b.look(wide, high, "light")
	b.picture("nothing-yet")

	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	b.sees("#bank", "Waiting for the phone")
	b.sees("#phone", "demo-bank asks you, S1234567D, to confirm.")
	b.sees("#trail", "the question arrives at S1234567D")
	if got := eval[string](b, "document.activeElement.id"); got != "confirm" {
		t.Errorf("after the press the keyboard is on %q", got)
	}
	b.sees("#trail", "poll 1: not answered yet")
	b.look(wide, high, "light")
	b.picture("waiting")
	b.do(chromedp.Navigate(page)) // as a reload does
	b.sees("#bank", "Waiting for the phone")
	b.sees("#bank", "Answer on the phone.")
	b.click("#bank .wait a")
	if got := eval[string](b, "document.activeElement.id"); got != "phone" {
		t.Errorf("the way to the phone leads to %q", got)
	}

	b.click("#phone .yes")
	b.sees("#phone", "You approved. The service has heard it.")
	b.sees("#bank", "Transfer sent S1234567D confirmed it on the phone.")
	b.sees("#inbox", "Signature verified with key whsec")
	for _, part := range []string{"webhook-id evt_", "webhook-timestamp", "webhook-signature v1,", `"type": "step_up.approved"`, `"to": "Harbour Motors"`} {
		b.sees("#inbox", part)
	}
	for _, line := range []string{"POST /bc-auth with a signed assertion", "S1234567D approves", "yes, an encrypted ID token", "decrypts the ID token, verifies it", "stores the final state: approved", "webhook step_up.approved", "the bank has answered: 204"} {
		b.sees("#trail", line)
	}
	b.look(wide, high, "light")
	b.forReadme("demo")
	b.picture("approved")

	b.click("#confirm")
	b.sees("#phone", "asks you, S1234567D, to confirm")
	b.click("#confirm")
	b.sees("#bank", "429 person_busy")
	b.sees("#bank", "Waiting for the phone")
	b.look(wide, high, "light")
	b.picture("busy")
	b.click("#phone .no")
	b.sees("#bank", "Transfer stopped It was refused on the phone.")
	b.sees("#inbox", `"type": "step_up.denied"`)
	b.look(wide, high, "dark")
	b.picture("refused-dark")

	b.click("#confirm")
	b.sees("#phone", "Let it expire")
	b.sees("#inbox", "No new webhook yet")
	b.look(360, 780, "dark")
	b.picture("waiting-narrow-dark")
	b.click("#phone .plain")
	b.sees("#phone", "Time is up.")
	b.sees("#bank", "Nobody answered in time.")
	b.sees("#inbox", `"code": "expired"`)
	b.look(360, 780, "light")
	b.picture("expired-narrow")

	res, err := http.Post(strings.TrimSuffix(page, "/")+hooksPath, "application/json", strings.NewReader(`{"type":"step_up.approved"}`))
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a webhook without a signature: %v, %v", res, err)
	}
	res.Body.Close()
	b.sees("#inbox", "Not accepted")
	b.sees("#bank", "Nobody answered in time.")
	b.look(900, 820, "light")
	b.picture("forged-middle")
}

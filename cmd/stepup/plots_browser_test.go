package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"stepup/worker"
	"stepup/worker/admin"
)

// rush is a service with four digits in every plot.
type rush struct{ admin.Service }

func (rush) Draining() bool { return false }

func (rush) Overview(context.Context) (worker.Overview, error) {
	now := time.Now()
	o := worker.Overview{At: now, Whole: true, MostInFlight: 100_000}
	for n := range 60 {
		o.Minutes = append(o.Minutes, worker.Rates{At: now.Add(time.Duration(n-59) * time.Minute), Created: 8888, Delivered: 8888, Failed: 8888,
			Finals: map[worker.State]int{worker.Approved: 6666, worker.Denied: 2222}})
	}
	return o, nil
}

// However wide the window is, what is beside each other in the plots is in line, and captions do not wrap.
func TestPlotsInTheBrowser(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(admin.Handler(admin.Options{Service: rush{}, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(srv.Close)
	b := browse(t, srv.URL+"/", 1280, 800)
	b.sees("#rates", "8,888 last full minute")
	for _, width := range []int64{1280, 1160, 1150, 768, 500, 360} {
		b.look(width, 800, "light")
		b.picture(fmt.Sprint("plots-", width))
		for _, crooked := range eval[[]string](b, crookedPlots) {
			t.Errorf("%d px: %s", width, crooked)
		}
	}
}

const crookedPlots = `(() => {
	const at = (f, s) => f.querySelector(s).getBoundingClientRect();
	const all = [...document.querySelectorAll(".plots figure")], said = all.length === 4 ? [] : [all.length + " plots"];
	for (const f of all) {
		const title = f.querySelector(".name").textContent;
		for (const s of [".name", ".now"]) {
			const e = f.querySelector(s);
			if (at(f, s).height > 32) said.push(title + ": " + s + " is " + at(f, s).height + " high");
			if (e.scrollWidth > e.clientWidth) said.push(title + ": " + s + " sticks out");
		}
		for (const g of all) for (const s of ["figcaption", "svg", ".axis", ".legend"])
			if (g.offsetTop === f.offsetTop && Math.abs(at(g, s).top - at(f, s).top) > 1) said.push(title + ": " + s + " is out of line");
	}
	return said;
})()`

package main

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium with one page open. A page that asks anything of a host other than this machine, breaks its
// own policy or throws fails the test.
type browser struct {
	t   *testing.T
	ctx context.Context
	mu  sync.Mutex // complaints come at any time
	bad []string
}

// browse opens a page in a window of that size.
func browse(t *testing.T, address string, width, height int64) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: run `make deps` at the root")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, kill := chromedp.NewExecAllocator(context.Background(), options...) // not the test's, which ends too early to close it in peace
	ctx, _ = chromedp.NewContext(ctx)
	b := &browser{t: t, ctx: ctx}
	t.Cleanup(func() {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_ = chromedp.Cancel(within) // closes it and takes its folder away
		kill()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, text := range b.bad {
			t.Error(text)
		}
	})
	b.do(chromedp.EmulateViewport(width, height), chromedp.Func(b.listen), chromedp.Navigate(address))
	return b
}

// listen notes what the page should not do.
func (b *browser) listen(ctx context.Context, t *chromedp.Target) error {
	if _, err := cdp.Call(ctx, t, log.Enable, cdp.Empty{}); err != nil {
		return err
	}
	if _, err := cdp.Call(ctx, t, network.Enable, network.EnableParams{}); err != nil {
		return err
	}
	return chromedp.Listen(ctx, func(event any) {
		complaint := ""
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			complaint = "the page throws: " + e.ExceptionDetails.Text
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				complaint = "the console says: " + e.Entry.Text
			}
		case *network.EventRequestWillBeSent:
			if u, err := url.Parse(e.Request.URL); err == nil && u.Scheme != "data" && u.Hostname() != "127.0.0.1" {
				complaint = "the page asks " + u.Host
			}
		}
		if complaint != "" {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.bad = append(b.bad, complaint)
		}
	})
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// eval runs a JavaScript expression, past the page's policy.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// text is what a person reads there.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return strings.Join(strings.Fields(eval[string](b, "document.querySelector('"+selector+"')?.innerText ?? ''")), " ")
}

// sees waits until the words stand there.
func (b *browser) sees(selector, words string) {
	b.t.Helper()
	eventually(b.t, selector+" says "+words, func() bool { return strings.Contains(b.text(selector), words) })
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// look sets the window's width and height and what the person prefers, light or dark.
func (b *browser) look(width, height int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
	if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
		b.t.Errorf("the page is %d wide in a window of %d", wide, width)
	}
	for _, text := range eval[[]string](b, faint) {
		b.t.Errorf("hard to read, %s: %s", scheme, text)
	}
}

// faint is what stands out too little from its ground: less than 4.5 to 1, or 3 to 1 for what is large (WCAG 2.2, 1.4.3).
const faint = `(() => {
	const parse = c => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return {rgb: [r, g, b], a}; };
	const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a === 1) return c.rgb; } return [255, 255, 255]; };
	const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const e = n.parentElement, style = getComputedStyle(e), size = parseFloat(style.fontSize);
		if (!n.data.trim() || !e.checkVisibility() || e.closest("noscript, script, style")) continue;
		const [dark, bright] = [light(parse(style.color).rgb), light(ground(e))].sort((a, b) => a - b);
		const ratio = (bright + 0.05) / (dark + 0.05), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) found.push(ratio.toFixed(2) + " to 1: " + n.data.trim().slice(0, 60));
	}
	return found;
})()`

// forReadme writes what the window shows to the folder that STEPUP_PICTURES names, if it does: deploy/pictures has the ones
// in the README. Their colours are brought down to those that matter, so that they stay small.
func (b *browser) forReadme(name string) {
	b.t.Helper()
	dir := os.Getenv("STEPUP_PICTURES")
	if dir == "" {
		return
	}
	shot, err := png.Decode(bytes.NewReader(b.shot(chromedp.CaptureScreenshot())))
	if err != nil {
		b.t.Fatal(err)
	}
	var file bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&file, fewColours(shot)); err != nil {
		b.t.Fatal(err)
	}
	if file.Len() > 150<<10 {
		b.t.Errorf("%s.png has %d bytes, more than the repository should carry", name, file.Len())
	}
	b.keep(filepath.Join(dir, name+".png"), file.Bytes())
}

// fewColours is the picture in its 256 most frequent colours.
func fewColours(from image.Image) image.Image {
	count := map[color.RGBA]int{}
	each := func(f func(x, y int, c color.RGBA)) {
		for y := from.Bounds().Min.Y; y < from.Bounds().Max.Y; y++ {
			for x := from.Bounds().Min.X; x < from.Bounds().Max.X; x++ {
				f(x, y, color.RGBAModel.Convert(from.At(x, y)).(color.RGBA))
			}
		}
	}
	each(func(_, _ int, c color.RGBA) { count[c]++ })
	frequent := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	var palette color.Palette
	for _, c := range frequent[:min(256, len(frequent))] {
		palette = append(palette, c)
	}
	nearest := map[color.RGBA]uint8{}
	for c := range count {
		nearest[c] = uint8(palette.Index(c))
	}
	to := image.NewPaletted(from.Bounds(), palette)
	each(func(x, y int, c color.RGBA) { to.SetColorIndex(x, y, nearest[c]) })
	return to
}

// picture keeps a screenshot among the test's artifacts: all of the page, however long.
func (b *browser) picture(name string) {
	b.t.Helper()
	b.keep(filepath.Join(b.t.ArtifactDir(), name+".png"), b.shot(chromedp.FullScreenshot(100)))
}

func (b *browser) shot(how chromedp.Action[[]byte]) []byte {
	b.t.Helper()
	shot, err := chromedp.Run(b.ctx, how)
	if err != nil {
		b.t.Fatal(err)
	}
	return shot
}

func (b *browser) keep(file string, picture []byte) {
	b.t.Helper()
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

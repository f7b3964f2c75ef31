package admin

import (
	"html"
	"html/template"
	"regexp"
	"strings"
)

// markdown renders as much of Markdown as our own documents use: headings, paragraphs, lists, tables, code, emphasis and links
// within the page. The text is part of the program.
func markdown(text string) template.HTML {
	var out strings.Builder
	code := false
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		switch lines := strings.Split(strings.Trim(block, "\n"), "\n"); {
		case code || strings.HasPrefix(block, "```"):
			code = codeBlock(&out, block, code)
		case strings.HasPrefix(block, "#"):
			heading(&out, lines[0])
			if rest := strings.Join(lines[1:], "\n"); rest != "" {
				paragraph(&out, rest)
			}
		case strings.HasPrefix(block, "|"):
			table(&out, lines)
		case strings.HasPrefix(block, "* "), strings.HasPrefix(block, "- "):
			list(&out, "ul", lines, bullet)
		case numbered.MatchString(block):
			list(&out, "ol", lines, numbered)
		default:
			paragraph(&out, block)
		}
	}
	return template.HTML(out.String())
}

var (
	bullet   = regexp.MustCompile(`^[*-] `)
	numbered = regexp.MustCompile(`^\d+\. `)
	nonWord  = regexp.MustCompile(`[^a-z0-9]+`)
	anchored = regexp.MustCompile(`\[([^\]]+)\]\(#([a-z0-9-]+)\)`)
	linked   = regexp.MustCompile(`\[([^\]]+)\]\([^)]*\)`) // elsewhere: what it says is enough
	strong   = regexp.MustCompile(`\*\*([^*]+)\*\*`)
)

func heading(out *strings.Builder, line string) {
	text := strings.TrimLeft(line, "#")
	level := string('0' + rune(min(len(line)-len(text), 4)))
	text = strings.TrimSpace(text)
	id := strings.Trim(nonWord.ReplaceAllString(strings.ToLower(text), "-"), "-")
	out.WriteString("<h" + level + ` id="` + id + `">` + inText(text) + "</h" + level + ">")
}

func paragraph(out *strings.Builder, text string) {
	out.WriteString("<p>" + inText(strings.ReplaceAll(text, "\n", " ")) + "</p>")
}

// list writes items; lines that do not begin one go on with the one before.
func list(out *strings.Builder, tag string, lines []string, begins *regexp.Regexp) {
	var items []string
	for _, line := range lines {
		if mark := begins.FindString(line); mark != "" || len(items) == 0 {
			items = append(items, strings.TrimPrefix(line, mark))
		} else {
			items[len(items)-1] += " " + strings.TrimSpace(line)
		}
	}
	out.WriteString("<" + tag + ">")
	for _, item := range items {
		out.WriteString("<li>" + inText(item) + "</li>")
	}
	out.WriteString("</" + tag + ">")
}

// table writes rows; the second line of the source says which columns there are.
func table(out *strings.Builder, lines []string) {
	out.WriteString(`<div class="table"><table>`)
	for i, line := range lines {
		if i == 1 {
			continue
		}
		cell := "td"
		if i == 0 {
			cell = "th"
		}
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if strings.TrimSpace(strings.Join(cells, "")) == "" { // a table without a head
			continue
		}
		out.WriteString("<tr>")
		for _, c := range cells {
			out.WriteString("<" + cell + ">" + inText(strings.TrimSpace(c)) + "</" + cell + ">")
		}
		out.WriteString("</tr>")
	}
	out.WriteString("</table></div>")
}

// codeBlock writes a block of code, or a part of one that has empty lines; it reports whether the code goes on.
func codeBlock(out *strings.Builder, block string, inside bool) (goesOn bool) {
	if !inside {
		_, block, _ = strings.Cut(block, "\n")
		out.WriteString("<pre>")
	} else {
		out.WriteString("\n\n")
	}
	block, closed := strings.CutSuffix(strings.TrimRight(block, "\n"), "```")
	out.WriteString(html.EscapeString(strings.TrimRight(block, "\n")))
	if closed {
		out.WriteString("</pre>")
	}
	return !closed
}

// inText renders what stands within a line. What is in backticks stays as it is.
func inText(text string) string {
	var out strings.Builder
	for i, part := range strings.Split(html.EscapeString(text), "`") {
		if i%2 == 1 {
			out.WriteString("<code>" + part + "</code>")
			continue
		}
		part = anchored.ReplaceAllString(part, `<a href="#$2">$1</a>`)
		part = linked.ReplaceAllString(part, "$1")
		out.WriteString(strong.ReplaceAllString(part, "<strong>$1</strong>"))
	}
	return out.String()
}

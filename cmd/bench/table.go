package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// table is what is printed. Its cells are numbers, or absent.
type table struct {
	Title   string
	Columns []string
	Rows    []tableRow
}

type tableRow struct {
	Name   string
	Digits int
	Values []*float64 // one a column; nil: the column has none
	Ratio  bool       // the first column is held against the others
}

type tables []table

func (r *tableRow) set(column int, v float64) { r.Values[column] = &v }

// rowOf makes a row of what each column measured; ok is false where a column has none.
func rowOf[C any](columns []C, name string, digits int, of func(C) (v float64, ok bool)) tableRow {
	r := tableRow{Name: name, Digits: digits, Values: make([]*float64, len(columns))}
	for i, c := range columns {
		if v, ok := of(c); ok {
			r.set(i, v)
		}
	}
	return r
}

// row is the table's row of that name; nil when there is none.
func (t table) row(name string) *tableRow {
	for i := range t.Rows {
		if t.Rows[i].Name == name {
			return &t.Rows[i]
		}
	}
	return nil
}

// ratio is the first column's value over that of the named one; ok is false where there is none.
func (t table) ratio(name, column string) (float64, bool) {
	r := t.row(name)
	if r == nil {
		return 0, false
	}
	for i, c := range t.Columns {
		if c == column {
			return r.over(i)
		}
	}
	return 0, false
}

func (r *tableRow) over(i int) (float64, bool) {
	if r.Values[0] == nil || r.Values[i] == nil || *r.Values[i] == 0 {
		return 0, false
	}
	return *r.Values[0] / *r.Values[i], true
}

// compares says whether the table has ratios.
func (t table) compares() bool {
	for _, r := range t.Rows {
		if r.Ratio && len(r.Values) > 1 {
			return true
		}
	}
	return false
}

// head is what stands above the numbers.
func (t table) head() []string {
	head := append([]string{}, t.Columns...)
	if t.compares() {
		for _, c := range t.Columns[1:] {
			head = append(head, "÷ "+c)
		}
	}
	return head
}

// cells are a row's numbers as they are printed.
func (t table) cells(r tableRow) []string {
	var cells []string
	for _, v := range r.Values {
		if v == nil {
			cells = append(cells, "–")
		} else {
			cells = append(cells, strconv.FormatFloat(*v, 'f', r.Digits, 64))
		}
	}
	if !t.compares() {
		return cells
	}
	for i := range r.Values[1:] {
		ratio := ""
		if v, ok := r.over(i + 1); r.Ratio && ok {
			ratio = strconv.FormatFloat(v, 'f', 2, 64)
		}
		cells = append(cells, ratio)
	}
	return cells
}

// print writes the tables as text, markdown or json.
func (ts tables) print(out io.Writer, format string) error {
	if format == "json" {
		return json.NewEncoder(out).Encode(ts)
	}
	for i, t := range ts {
		if i > 0 {
			fmt.Fprintln(out)
		}
		write := t.text
		if format == "markdown" {
			write = t.markdown
		}
		if err := write(out); err != nil {
			return err
		}
	}
	return nil
}

func (t table) text(out io.Writer) error {
	fmt.Fprintf(out, "%s\n\n", t.Title)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	line := func(name string, cells []string) {
		fmt.Fprintf(w, "%s\t  %s\n", strings.Join(cells, "\t"), name)
	}
	line("", t.head())
	for _, r := range t.Rows {
		line(r.Name, t.cells(r))
	}
	return w.Flush()
}

func (t table) markdown(out io.Writer) error {
	line := func(cells ...string) { fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | ")) }
	fmt.Fprintf(out, "%s:\n\n", t.Title)
	line(append([]string{""}, t.head()...)...)
	line(append([]string{"---"}, strings.Split(strings.Repeat("---: ", len(t.head())-1)+"---:", " ")...)...)
	for _, r := range t.Rows {
		line(append([]string{strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(r.Name)}, t.cells(r)...)...)
	}
	return nil
}

// machine is what the numbers were measured on.
func machine() string { return fmt.Sprintf("%d cores, %s", runtime.NumCPU(), runtime.Version()) }

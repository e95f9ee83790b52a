// crdcompat tells what a change of CRDs takes away: `crdcompat OLD NEW` compares two folders of them, and prints a line for
// each thing that OLD has or takes and NEW does not. What is only added or loosened is no such thing.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/crdify/pkg/config"
	"sigs.k8s.io/crdify/pkg/validations"
	"sigs.k8s.io/crdify/pkg/validations/crd/existingfieldremoval"
	"sigs.k8s.io/crdify/pkg/validations/crd/scope"
	"sigs.k8s.io/crdify/pkg/validations/property"
	"sigs.k8s.io/yaml"
)

type (
	crd    = apiextensions.CustomResourceDefinition
	schema = apiextensions.JSONSchemaProps
	result = validations.ComparisonResult
)

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("two folders are needed: OLD and NEW"))
	}
	older, err := load(os.Args[1])
	fail(err)
	newer, err := load(os.Args[2])
	fail(err)
	var lost []string
	for name, old := range older {
		if now, ok := newer[name]; ok {
			lost = append(lost, compare(old, now)...)
		} else {
			lost = append(lost, name+": it is gone")
		}
	}
	slices.Sort(lost)
	for _, line := range slices.Compact(lost) {
		fmt.Println(line)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "crdcompat:", err)
		os.Exit(2)
	}
}

// load reads the CRDs of a folder, by name.
func load(folder string) (map[string]*crd, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no CRDs", folder)
	}
	if err != nil {
		return nil, err
	}
	crds := map[string]*crd{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var found crd
		if err := yaml.UnmarshalStrict(text, &found); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		crds[found.Name] = &found
	}
	return crds, nil
}

// compare says what one CRD has lost, a line each.
func compare(old, now *crd) []string {
	registry := validations.NewRegistry()
	existingfieldremoval.Register(registry)
	scope.Register(registry)
	var lost []string
	tell := func(where string, results ...result) {
		for _, result := range results {
			for _, text := range result.Errors {
				// On one line, as a file can list it.
				text = strings.Join(strings.Fields(text), " ")
				lost = append(lost, fmt.Sprintf("%s%s: %s: %s", old.Name, where, result.Name, text))
			}
		}
	}
	for _, check := range checks[crd](registry, nil) {
		tell("", check.Compare(old, now))
	}
	if old.Spec.Group != now.Spec.Group || !reflect.DeepEqual(old.Spec.Names, now.Spec.Names) {
		tell("", result{Name: "names", Errors: []string{fmt.Sprintf("%+v -> %+v", old.Spec.Names, now.Spec.Names)}})
	}
	for _, version := range old.Spec.Versions {
		next := validations.GetCRDVersionByName(now, version.Name)
		if next == nil || version.Served && !next.Served {
			tell(" "+version.Name, result{Name: "version", Errors: []string{"no longer served"}})
			continue
		}
		if version.Subresources != nil && !reflect.DeepEqual(version.Subresources, next.Subresources) {
			tell(" "+version.Name, result{Name: "subresources", Errors: []string{"others than before"}})
		}
		for _, column := range version.AdditionalPrinterColumns {
			isIt := func(other apiextensions.CustomResourceColumnDefinition) bool {
				return other.Name == column.Name && other.JSONPath == column.JSONPath
			}
			if !slices.ContainsFunc(next.AdditionalPrinterColumns, isIt) {
				tell(" "+version.Name, result{Name: "columns", Errors: []string{column.Name + " is gone, or another one"}})
			}
		}
		fields := validations.FlattenCRDVersion(*next)
		for path, results := range validations.CompareVersions(version, *next, config.EnforcementPolicyNone, ofFields()...) {
			// That a field is gone has been said.
			if _, ok := fields[path]; ok {
				tell(" "+version.Name+" "+path, results...)
			}
		}
	}
	return lost
}

// ofFields is what is compared of each field. What one has compared is gone for the next: the last one gets the rest.
func ofFields() []validations.Comparator[schema] {
	registry := validations.NewRegistry()
	for _, register := range []func(validations.Registry){
		property.RegisterDefault, property.RegisterEnum, property.RegisterRequired, property.RegisterType,
		property.RegisterMaximum, property.RegisterMaxItems, property.RegisterMaxLength, property.RegisterMaxProperties,
		property.RegisterMinimum, property.RegisterMinItems, property.RegisterMinLength, property.RegisterMinProperties,
	} {
		register(registry)
	}
	more := map[string]map[string]any{"enum": {"additionPolicy": property.AdditionPolicyAllow}}
	return append(checks[schema](registry, more), rules{}, rest{})
}

func checks[T validations.Comparable](registry validations.Registry, settings map[string]map[string]any) []validations.Comparator[T] {
	var found []validations.Validation
	for _, name := range registry.Registered() {
		check, err := registry.Validation(name, settings[name])
		fail(err)
		check.SetEnforcement(config.EnforcementPolicyError)
		found = append(found, check)
	}
	return validations.ComparatorsForValidations[T](found...)
}

// rules compares what CEL asks for, whatever the words in which it says so. Nobody can tell whether another rule asks
// for more or less.
type rules struct{}

func (rules) Compare(old, now *schema) result {
	before := map[string]bool{}
	for _, rule := range old.XValidations {
		before[rule.Rule] = true
	}
	told := result{Name: "rule"}
	for _, rule := range now.XValidations {
		if !before[rule.Rule] {
			told.Errors = append(told.Errors, rule.Rule)
		}
	}
	old.XValidations, now.XValidations = nil, nil
	return told
}

// rest compares whatever there is besides: a pattern, a format, the type of a list. Nobody can tell here either.
type rest struct{}

func (rest) Compare(old, now *schema) result {
	before, after := fieldsOf(old), fieldsOf(now)
	// Words; and a schema that has a path of its own.
	for _, name := range []string{"title", "description", "additionalProperties"} {
		delete(before, name)
		delete(after, name)
	}
	names := slices.Collect(maps.Keys(before))
	names = slices.AppendSeq(names, maps.Keys(after))
	told := result{Name: "schema"}
	for _, name := range names {
		if !reflect.DeepEqual(before[name], after[name]) {
			told.Errors = append(told.Errors, fmt.Sprintf("%s: %v -> %v", name, before[name], after[name]))
		}
	}
	return told
}

func fieldsOf(of *schema) map[string]any {
	text, err := json.Marshal(of)
	fail(err)
	var fields map[string]any
	fail(json.Unmarshal(text, &fields))
	return fields
}

//! The definitions as JSON schemas, for editors and for checks of manifests that have no API server at hand.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use super::definitions;

/// The schemas as files: name and JSON text. The names are those under which kubeconform and catalogues of schemas look for
/// them, `GROUP/KIND_VERSION.json` in lower case. What only an API server can judge, CEL rules above all, is not in them.
pub fn schemas() -> Vec<(String, String)> {
    definitions().iter().flat_map(of_definition).collect()
}

fn of_definition(crd: &CustomResourceDefinition) -> Vec<(String, String)> {
    let (group, kind) = (&crd.spec.group, &crd.spec.names.kind);
    let versions = crd.spec.versions.iter().filter_map(|version| {
        let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
        let mut schema = serde_json::to_value(schema).ok()?;
        tidy(&mut schema);
        describe(&mut schema, &format!("{group}/{}", version.name), kind);
        let file = format!("{group}/{}_{}.json", kind.to_lowercase(), version.name);
        Some((file, format!("{schema:#}\n")))
    });
    versions.collect()
}

/// What every object has. Of its metadata, the API server knows more than these schemas.
fn describe(schema: &mut Value, api_version: &str, kind: &str) {
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["properties"]["apiVersion"] = json!({ "type": "string", "enum": [api_version] });
    schema["properties"]["kind"] = json!({ "type": "string", "enum": [kind] });
    schema["properties"]["metadata"] = json!({ "type": "object" });
    if let Some(required) = schema["required"].as_array_mut() {
        required.extend(["apiVersion", "kind", "metadata"].map(Value::from));
    }
}

/// Takes away what is Kubernetes' own, and refuses fields that are not there, as `kubectl apply` does by default.
fn tidy(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    fields.retain(|name, _| !name.starts_with("x-kubernetes-") && name != "default");
    if fields.contains_key("properties") {
        fields.entry("additionalProperties").or_insert(json!(false));
    }
    for inside in ["items", "additionalProperties"] {
        fields.get_mut(inside).into_iter().for_each(tidy);
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).for_each(tidy);
}

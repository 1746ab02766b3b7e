"""Prompts of the registry: versions, aliases, tags, loaded, searched, linked to runs."""

import mlflow

client = mlflow.MlflowClient()


def flow(see):
    first = mlflow.genai.register_prompt(
        "greeting", "Hello {{name}}", commit_message="begin", tags={"t": "1"}
    )
    second = mlflow.genai.register_prompt("greeting", [{"role": "user", "content": "Hi {{name}}"}])
    see("versions", lambda: [int(first.version), int(second.version)])
    see("filled", lambda: first.format(name="owl"))
    see("loaded", lambda: mlflow.genai.load_prompt("prompts:/greeting/1").template)
    see("latest", lambda: int(mlflow.genai.load_prompt("greeting").version))
    mlflow.genai.set_prompt_alias("greeting", "production", 1)
    see("by alias", lambda: mlflow.genai.load_prompt("prompts:/greeting@production").template)
    mlflow.genai.delete_prompt_alias("greeting", "production")
    see("no alias", lambda: mlflow.genai.load_prompt("prompts:/greeting@production"))
    see("found", lambda: sorted(p.name for p in mlflow.genai.search_prompts("name LIKE 'gree%'")))
    see("tag set", lambda: mlflow.genai.set_prompt_tag("greeting", "team", "owls"))
    see("tags", lambda: mlflow.genai.get_prompt_tags("greeting"))
    see("version tag", lambda: mlflow.genai.set_prompt_version_tag("greeting", 1, "ok", "yes"))
    see(
        "its tags",
        lambda: {
            k: v
            for k, v in client.get_prompt_version("greeting", 1).tags.items()
            if not k.startswith("clew.")
        },
    )
    see("prompt", lambda: client.get_prompt("greeting").name)
    see("all versions", lambda: len(client.search_prompt_versions("greeting")))
    with mlflow.start_run() as run:
        mlflow.genai.load_prompt("prompts:/greeting/2")
        see("linked", lambda: client.link_prompt_version_to_run(run.info.run_id, first))
    see("of the run", lambda: sorted(p.name for p in client.list_logged_prompts(run.info.run_id)))
    see("no model", lambda: [m.name for m in client.search_registered_models("name = 'greeting'")])
    see("unknown", lambda: mlflow.genai.load_prompt("prompts:/nobody/1"))
    see("a bad name", lambda: mlflow.genai.register_prompt("a/b", "x"))
    see("a version goes", lambda: client.delete_prompt_version("greeting", "2"))
    see("the prompt goes", lambda: client.delete_prompt("greeting"))
    see("it is gone", lambda: client.get_prompt("greeting"))

"""The batch file: YAML and prompt files in; a checked ``BatchConfig``, or every problem with its line, out.

yaml_loader  YAML -> plain values that know their lines    models     the file as pydantic sees it, and as a value
types        what one value may be                         rows       prompts of CSV, TSV, JSONL, TXT and YAML files
settings     settings of each kind of job                  loader     load_config, and the checks between keys
templates    prompt and file name templates                explain    pydantic's errors -> problems with file and line
errors       problems, collected                           reference  JSON Schema and the tables of the docs
"""

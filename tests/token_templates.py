"""Chat templates in the shape of models' own whose calls stand between tokens: LFM2, DeepSeek,
Kimi K2 and gpt-oss.

What they do follows the published templates; their words are shortened.
"""

from __future__ import annotations

LFM2 = """\
{{- bos_token -}}
{%- set ns = namespace(system="") -%}
{%- if messages[0]["role"] == "system" -%}
    {%- set ns.system = messages[0]["content"] -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- if tools -%}
    {%- if ns.system -%}{%- set ns.system = ns.system + "\\n" -%}{%- endif -%}
    {%- set ns.system = ns.system + "List of tools: <|tool_list_start|>[" -%}
    {%- for tool in tools -%}
        {%- set ns.system = ns.system + (tool if tool is string else tool | tojson) -%}
        {%- if not loop.last -%}{%- set ns.system = ns.system + ", " -%}{%- endif -%}
    {%- endfor -%}
    {%- set ns.system = ns.system + "]<|tool_list_end|>" -%}
{%- endif -%}
{%- if ns.system -%}{{- "<|im_start|>system\\n" + ns.system + "<|im_end|>\\n" -}}{%- endif -%}
{%- for message in messages -%}
    {{- "<|im_start|>" + message["role"] + "\\n" -}}
    {%- set content = message["content"] -%}
    {%- if content is not string -%}{%- set content = content | tojson -%}{%- endif -%}
    {%- if message["role"] == "tool" -%}
        {%- set content = "<|tool_response_start|>" + content + "<|tool_response_end|>" -%}
    {%- endif -%}
    {{- content + "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
LFM2_5 = """\
{{- bos_token -}}
{%- macro argument(value) -%}
    {%- if value is string -%}{{- "'" + value + "'" -}}
    {%- elif value is mapping -%}{{- value | tojson -}}
    {%- else -%}{{- value | string -}}{%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(system="", last_user=-1) -%}
{%- if messages[0]["role"] == "system" -%}
    {%- set ns.system = messages[0]["content"] -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- if tools -%}
    {%- if ns.system -%}{%- set ns.system = ns.system + "\\n\\n" -%}{%- endif -%}
    {%- set ns.system = ns.system + "List of tools: " + (tools | tojson) -%}
{%- endif -%}
{%- if ns.system -%}{{- "<|im_start|>system\\n" + ns.system + "<|im_end|>\\n" -}}{%- endif -%}
{%- for message in messages -%}
    {%- if message["role"] == "user" -%}{%- set ns.last_user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
    {{- "<|im_start|>" + message.role + "\\n" -}}
    {%- set is_new = loop.index0 > ns.last_user -%}
    {%- if message.role == "assistant" and message.thinking is defined and is_new -%}
        {{- "<think>" + message.thinking + "</think>" -}}
    {%- endif -%}
    {%- if message.get("content") -%}{{- message["content"] -}}{%- endif -%}
    {%- if message.tool_calls is defined -%}
        {%- set calls = namespace(all=[]) -%}
        {%- for call in message.tool_calls -%}
            {%- set given = namespace(all=[]) -%}
            {%- for name, value in call["function"]["arguments"].items() -%}
                {%- set given.all = given.all + [name + "=" + argument(value)] -%}
            {%- endfor -%}
            {%- set named = call["function"]["name"] + "(" + (given.all | join(", ")) + ")" -%}
            {%- set calls.all = calls.all + [named] -%}
        {%- endfor -%}
        {{- "<|tool_call_start|>[" + (calls.all | join(", ")) + "]<|tool_call_end|>" -}}
    {%- endif -%}
    {{- "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
DEEPSEEK_R1 = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif -%}
{%- set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system='') -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}{%- set ns.system = message['content'] -%}{%- endif -%}
{%- endfor -%}
{{ bos_token }}{{ ns.system }}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {%- set ns.is_tool = false -%}{{ '<｜User｜>' + message['content'] }}
    {%- endif -%}
    {%- if message['role'] == 'assistant' and message['tool_calls'] -%}
        {%- set ns.is_tool = false -%}
        {%- for tool in message['tool_calls'] -%}
            {{ '\\n' if ns.is_first else '<｜Assistant｜><｜tool▁calls▁begin｜>' }}
            {{- '<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' }}
            {{- tool['function']['name'] }}
            {{- '\\n```json\\n' + tool['function']['arguments'] + '\\n```<｜tool▁call▁end｜>' }}
            {%- set ns.is_first = true -%}
        {%- endfor -%}
        {{ '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
    {%- endif -%}
    {%- if message['role'] == 'assistant' and message['content'] is not none -%}
        {%- set content = message['content'] -%}
        {%- if ns.is_tool -%}
            {{ '<｜tool▁outputs▁end｜>' + content + '<｜end▁of▁sentence｜>' }}
            {%- set ns.is_tool = false -%}
        {%- else -%}
            {%- if '</think>' in content -%}
                {%- set content = content.split('</think>')[-1] -%}
            {%- endif -%}
            {{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
        {%- endif -%}
    {%- endif -%}
    {%- if message['role'] == 'tool' -%}
        {%- set ns.is_tool = true -%}
        {{ '<｜tool▁outputs▁begin｜>' if ns.is_output_first else '\\n' }}
        {{- '<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>' }}
        {%- set ns.is_output_first = false -%}
    {%- endif -%}
{%- endfor -%}
{%- if ns.is_tool -%}{{ '<｜tool▁outputs▁end｜>' }}{%- endif -%}
{%- if add_generation_prompt and not ns.is_tool -%}{{ '<｜Assistant｜><think>\\n' }}{%- endif %}
"""
DEEPSEEK_V3_1 = """\
{% if not thinking is defined %}{% set thinking = false %}{% endif -%}
{%- set ns = namespace(is_first=false, is_tool=false, system='', is_last_user=false) -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {%- set ns.system = ns.system + ('\\n\\n' if ns.system else '') + message['content'] -%}
    {%- endif -%}
{%- endfor -%}
{{ bos_token }}{{ ns.system }}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {%- set ns.is_tool = false -%}{%- set ns.is_first = false -%}
        {%- set ns.is_last_user = true -%}
        {{ '<｜User｜>' + message['content'] }}
    {%- endif -%}
    {%- if message['role'] == 'assistant' and message['tool_calls'] is defined -%}
        {{ '<｜Assistant｜></think>' if ns.is_last_user else '' }}
        {%- set ns.is_last_user = false -%}{%- set ns.is_first = false -%}
        {%- set ns.is_tool = false -%}
        {%- for tool in message['tool_calls'] -%}
            {%- if not ns.is_first -%}
                {{ '' if message['content'] is none else message['content'] }}
                {{- '<｜tool▁calls▁begin｜>' }}
            {%- endif -%}
            {{ '<｜tool▁call▁begin｜>' + tool['function']['name'] + '<｜tool▁sep｜>' }}
            {{- tool['function']['arguments'] + '<｜tool▁call▁end｜>' }}
            {%- set ns.is_first = true -%}
        {%- endfor -%}
        {{ '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
    {%- elif message['role'] == 'assistant' -%}
        {{ '<｜Assistant｜></think>' if ns.is_last_user else '' }}
        {%- set ns.is_last_user = false -%}
        {%- set content = message['content'] -%}
        {%- if '</think>' in content -%}
            {%- set content = content.split('</think>', 1)[1] -%}
        {%- endif -%}
        {{ content + '<｜end▁of▁sentence｜>' }}
    {%- elif message['role'] == 'tool' -%}
        {%- set ns.is_last_user = false -%}{%- set ns.is_tool = true -%}
        {{ '<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and ns.is_last_user and not ns.is_tool -%}
    {{ '<｜Assistant｜>' + ('<think>' if thinking else '</think>') }}
{%- endif %}
"""
KIMI_K2 = """\
{%- macro said(message) -%}
    {%- if message['content'] is string -%}{{ message['content'] }}{%- endif -%}
{%- endmacro -%}
{%- if tools -%}
<|im_system|>tool_declare<|im_middle|>{{ tools | tojson }}<|im_end|>
{%- endif -%}
{%- if messages[0]['role'] != 'system' -%}
<|im_system|>system<|im_middle|>Help.<|im_end|>
{%- endif -%}
{%- for message in messages -%}
    {%- set name = message.get('name') or message['role'] -%}
    {%- if message['role'] == 'user' -%}<|im_user|>{{ name }}<|im_middle|>
    {%- elif message['role'] == 'assistant' -%}<|im_assistant|>{{ name }}<|im_middle|>
    {%- else -%}<|im_system|>{{ name }}<|im_middle|>{%- endif -%}
    {%- if message['role'] == 'assistant' -%}
        <think>{{ message.get('reasoning_content', '') }}</think>{{ said(message) }}
        {%- if message.get('tool_calls') -%}
            <|tool_calls_section_begin|>
            {%- for call in message['tool_calls'] -%}
                <|tool_call_begin|>{{ call['id'] }}<|tool_call_argument_begin|>
                {%- if call['function']['arguments'] is string -%}
                    {{ call['function']['arguments'] }}
                {%- else -%}{{ call['function']['arguments'] | tojson }}{%- endif -%}
                <|tool_call_end|>
            {%- endfor -%}
            <|tool_calls_section_end|>
        {%- endif -%}
    {%- elif message['role'] == 'tool' -%}
        ## Return of {{ message.tool_call_id }}\\n{{ said(message) }}
    {%- else -%}{{ said(message) }}{%- endif -%}
    <|im_end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_assistant|>assistant<|im_middle|>{%- endif -%}
"""
GPT_OSS = """\
{%- macro system_message() -%}
    {%- if reasoning_effort is not defined %}{%- set reasoning_effort = "medium" %}{%- endif %}
    {{- "Reasoning: " + reasoning_effort + "\\n\\n" }}
    {{- "# Valid channels: analysis, commentary, final." }}
    {%- if tools -%}{{- "\\nCalls go to the commentary channel: 'functions'." }}{%- endif -%}
{%- endmacro -%}
{{- "<|start|>system<|message|>" }}{{- system_message() }}{{- "<|end|>" }}
{%- if messages[0].role == "developer" or messages[0].role == "system" %}
    {%- set developer = messages[0].content %}{%- set turns = messages[1:] %}
{%- else %}
    {%- set developer = "" %}{%- set turns = messages %}
{%- endif %}
{%- if developer or tools %}
    {{- "<|start|>developer<|message|>" }}
    {%- if developer %}{{- "# Instructions\\n\\n" + developer + "\\n\\n" }}{%- endif %}
    {%- if tools -%}
        {{- "# Tools\\n\\nnamespace functions {\\n\\n" }}
        {%- for tool in tools %}
            {{- "// " + tool.function.description + "\\ntype " + tool.function.name + " = (_: " }}
            {{- tool.function.parameters | tojson + ") => any;\\n\\n" }}
        {%- endfor %}
        {{- "} // namespace functions" }}
    {%- endif -%}
    {{- "<|end|>" }}
{%- endif %}
{%- set last = namespace(name=none) %}
{%- for message in turns -%}
    {%- if message.role == 'assistant' -%}
        {%- if "content" in message and "<|channel|>analysis<|message|>" in message.content %}
            {{- raise_exception("channels stand in the content") }}
        {%- endif %}
        {%- if "tool_calls" in message %}
            {%- set future = namespace(found=false) %}
            {%- for later in turns[loop.index:] %}
                {%- if later.role == 'assistant' and "tool_calls" not in later %}
                    {%- set future.found = true %}
                {%- endif %}
            {%- endfor %}
            {%- set call = message.tool_calls[0].function %}
            {%- if message.content and message.thinking %}
                {{- raise_exception("content and thinking are one beside calls") }}
            {%- elif (message.content or message.thinking) and not future.found %}
                {{- "<|start|>assistant<|channel|>analysis<|message|>" }}
                {{- (message.content or message.thinking) + "<|end|>" }}
            {%- endif %}
            {{- "<|start|>assistant to=functions." + call.name }}
            {{- "<|channel|>commentary json<|message|>" }}
            {{- call.arguments | tojson }}{{- "<|call|>" }}
            {%- set last.name = call.name %}
        {%- else %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" }}
            {%- set last.name = none %}
        {%- endif %}
    {%- elif message.role == 'tool' -%}
        {%- if last.name is none %}{{- raise_exception("no call came before") }}{%- endif %}
        {{- "<|start|>functions." + last.name }}
        {{- " to=assistant<|channel|>commentary<|message|>" }}
        {{- message.content | tojson + "<|end|>" }}
    {%- elif message.role == 'user' -%}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}
"""

TEMPLATES = {
    "lfm2": LFM2,
    "lfm2.5": LFM2_5,
    "deepseek-r1": DEEPSEEK_R1,
    "deepseek-v3.1": DEEPSEEK_V3_1,
    "kimi-k2": KIMI_K2,
    "gpt-oss": GPT_OSS,
}

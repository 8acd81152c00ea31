"""Word lists behind `meaning`: which English words carry no meaning, little meaning, or the same meaning."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


CONTRACTIONS = {
    "what's": "what is", "where's": "where is", "who's": "who is", "when's": "when is", "how's": "how is",
    "that's": "that is", "it's": "it is", "there's": "there is", "here's": "here is", "let's": "let us",
    "i'm": "i am", "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not",
    "wanna": "want to", "gonna": "going to", "gimme": "give me", "lemme": "let me", "what're": "what are",
}  # fmt: skip
CONTRACTION_ENDINGS = (
    ("n't", " not"), ("'re", " are"), ("'ve", " have"), ("'ll", " will"), ("'d", " would"), ("'s", ""),
)  # fmt: skip

STOP_WORDS = frozenset(
    _words(
        """
        a an the this that these those it its he she they them their his her him i me my mine we us our you your yours
        am is are was were be been being do does did done doing have has had having will would shall should can could
        may might must not no nor and or but if so as of at by for from in into on onto to with about over under between
        than then there here what which who whom whose when where why how please ok okay oh um uh er well just really
        very quite also too any some all both each more most much many few other another such only own same again now
        yes yeah yep tell say ask know let hey hi hello thanks thank up out off down one ones hear heard got guys sir
        madam maybe perhaps actually anything something everything explain describe mean wonder wondering
        """
    )
)

# Words that say little about what a question is about; they count, but weakly.
WEAK_WORDS = frozenset(
    _words(
        """
        want need get give go make take use like look find see come think work thing way kind sort part lot bit people
        someone good nice great right possible able available question information info detail offer provide include
        today tomorrow tonight morning afternoon evening week month day new first last next time different interested
        talk try put keep become seem call name company business team product service app website site system place
        somewhere long short old while still ever never love hope believe whole full bring allow permit visit show
        """
    )
)

# Words and phrases with one meaning. The first word names the concept; phrases are looked for before single words.
CONCEPTS = """
price: price|pricing|prices|cost|costs|fee|fees|charge|rate|rates|tariff|expensive|cheap|pay for|how much
price: what does it cost|dollar|dollars|euro|euros|pound|pounds|quote|affordable|budget|worth
payment: payment|pay|paying|card|cash|visa|mastercard|paypal|invoice|credit|debit|checkout
free: free|for nothing|no charge|complimentary|gratis|trial|demo version
discount: discount|coupon|voucher|deal|deals|special offer|promotion|reduction|rebate
reset: reset|forgot|forget|forgotten|recover|lost my
refund: refund|refunds|money back|reimburse|reimbursement|give it back
return: return|returns|send back|bring back|exchange
book: book|booking|reserve|reservation|reservations|appointment|appointments|schedule|slot|arrange a visit
cancel: cancel|cancellation|call off|annul|unsubscribe|quit my
hours: opening hours|opening times|business hours|open|opened|opening|close|closed|closing|what time do you open
hours: what time do you close|when do you open|when do you close|until when
place: address|location|located|situated|where are you|where can i find you|where is your|find you|get there
place: how do i get to you|directions|street|branch|based
contact: contact|phone|telephone|mobile|reach you|reach someone|get in touch|email|mail|e mail|phone number
contact: call you|support line|hotline
person: staff|employee|human|real person|someone real|manager|agent of yours|representative|colleague
owner: owner|boss|director|who runs|who owns
maker: founder|founded|creator|maker|developer|author|created you|made you|made this|built you|built this
maker: behind this|who made|who built|who created
delivery: delivery|deliver|ship|shipping|shipment|dispatch|courier|postage|send it to me|arrive
buy: buy|purchase|order|get one|acquire|shop
start: start|begin|get started|getting started|set up|setup|install|installation|launch|sign up|register|registration
run: host|hosting|self hosted|self hosting|own server|own machine|own computer|on premises|on my machine
account: account|login|log in|sign in|password|username|profile
video: video|videos|clip|clips|film|movie|footage
avatar: avatar|avatars|face|faces|character|talking head|digital human|virtual person|portrait
voice: voice|voices|speech|sound|accent|clone
picture: picture|photo|photograph|image|images|selfie
language: language|languages|english|german|french|spanish|italian|multilingual|translate|translation|which tongue
privacy: privacy|private|personal data|gdpr|data protection|store my|keep my|record me|recorded|recording
privacy: what do you save|delete my
secure: secure|security|safe|safety|encrypted|encryption|hack|hacked
help: help|support|assistance|assist|problem|problems|issue|issues|trouble|broken|not working|does not work|fix|error
fast: fast|quick|quickly|speed|slow|latency|delay|soon
duration: how long|how many days|how many weeks|how much time|duration|days|weeks|minutes
menu: menu|food|eat|dish|dishes|meal|meals|serve|cuisine|breakfast|lunch|dinner
drink: drink|drinks|coffee|tea|wine|beer|beverage|bar
vegetarian: vegetarian|vegan|meat free|plant based|without meat
allergy: allergy|allergic|allergies|gluten|nuts|lactose|intolerance
parking: parking|park|my car|car park|garage
wifi: wifi|wi fi|internet|wireless|hotspot
child: child|children|kid|kids|baby|toddler|family|families
pet: pet|pets|dog|dogs|cat|cats|animal|animals
size: size|sizes|big|large|small|dimensions|how big|how large|width|height
weather: weather|rain|raining|sunny|forecast|snow|temperature
job: job|jobs|career|careers|hire|hiring|vacancy|vacancies|work for you|apply for
guarantee: guarantee|warranty|guaranteed|warrantee
difference: difference|differ|compare|comparison|versus|vs|better than|alternative|alternatives|competitor|competitors
doctor: doctor|physician|dentist|nurse|clinic|medical
lesson: lesson|lessons|course|courses|class|classes|training|teach|learn|workshop|tutorial
meeting: meeting|meetings|conference|call with
room: room|rooms|suite|accommodation|stay overnight
ticket: ticket|tickets|admission|entry|entrance
rent: rent|rental|lease|hire a
computer: computer|computers|machine|hardware|laptop|pc|gpu|processor|requirements
model: model|models|artificial intelligence|ai|neural network|llm
source: open source|source code|github|licence|license|licensed
"""

NUMBERS = {
    word: value
    for value, word in enumerate(
        _words(
            """
            zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
            seventeen eighteen nineteen
            """
        )
    )
}
TENS = {
    word: 10 * value
    for value, word in enumerate(_words("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
}

IRREGULAR = {
    "children": "child", "men": "man", "women": "woman", "people": "people", "feet": "foot", "mice": "mouse",
    "bought": "buy", "paid": "pay", "went": "go", "gone": "go", "took": "take", "taken": "take", "made": "make",
    "sold": "sell", "spoke": "speak", "spoken": "speak", "wrote": "write", "written": "write", "ran": "run",
    "running": "run", "began": "begin", "begun": "begin", "sent": "send", "kept": "keep", "held": "hold",
    "met": "meet", "left": "leave", "taught": "teach", "built": "build", "chose": "choose", "chosen": "choose",
    "ate": "eat", "does": "do", "news": "news", "business": "business", "always": "always", "dying": "die",
    "lying": "lie", "tying": "tie", "cancelled": "cancel", "cancelling": "cancel", "opening": "open",
    "using": "use", "used": "use",
}  # fmt: skip

# Endings the stemmer takes off, longest first, and what it puts in their place.
ENDINGS = (
    ("ational", "ate"), ("ization", "ize"), ("isation", "ize"), ("ation", ""), ("ement", ""), ("ment", ""),
    ("ness", ""), ("ingly", ""), ("edly", ""), ("ing", ""), ("ed", ""), ("ly", ""), ("able", ""), ("ful", ""),
)  # fmt: skip

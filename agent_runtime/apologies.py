# ruff: noqa: RUF001 - letters of many languages look alike
"""What the agent says by itself while a part of it does not answer, in every language that an agent can be set to."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from livekit.agents.llm import ChatContext, ChatItem, ChatMessage

from projects.providers.shared.answers import without_thoughts


@dataclass(frozen=True)
class Apologies:
    """Sentences of one language, in the order of the table below."""

    one_moment: str
    cannot_answer: str
    broke_off: str
    cannot_hear: str
    cannot_speak: str


TABLE = {
    "en": (
        "One moment, please.",
        "I am sorry, I cannot answer right now. Please try again in a moment.",
        "I am sorry, I lost my thread. Please ask me again.",
        "I am sorry, I cannot hear you right now. Please say it again, or type it.",
        "My voice is not working right now. Please read what I say.",
    ),
    "ar": (
        "لحظة من فضلك.",
        "عذرًا، لا أستطيع الإجابة الآن. يرجى المحاولة بعد قليل.",
        "عذرًا، انقطع كلامي. يرجى طرح السؤال مرة أخرى.",
        "عذرًا، لا أستطيع سماعك الآن. يرجى إعادة ما قلته أو كتابته.",
        "صوتي لا يعمل الآن. يرجى قراءة ما أقوله.",
    ),
    "bg": (
        "Един момент, моля.",
        "Съжалявам, в момента не мога да отговоря. Моля, опитайте отново след малко.",
        "Съжалявам, прекъснах. Моля, попитайте ме отново.",
        "Съжалявам, в момента не ви чувам. Моля, повторете или напишете.",
        "Гласът ми в момента не работи. Моля, прочетете какво казвам.",
    ),
    "ca": (
        "Un moment, si us plau.",
        "Ho sento, ara mateix no puc respondre. Torneu-ho a provar d'aquí a un moment.",
        "Ho sento, he perdut el fil. Torneu-m'ho a preguntar.",
        "Ho sento, ara mateix no us sento. Repetiu-ho o escriviu-ho.",
        "La meva veu no funciona ara mateix. Llegiu el que dic.",
    ),
    "cs": (
        "Okamžik, prosím.",
        "Omlouvám se, teď nemohu odpovědět. Zkuste to prosím za chvíli znovu.",
        "Omlouvám se, ztratila se mi nit. Zeptejte se prosím znovu.",
        "Omlouvám se, teď vás neslyším. Zopakujte to prosím, nebo to napište.",
        "Můj hlas teď nefunguje. Přečtěte si prosím, co říkám.",
    ),
    "da": (
        "Et øjeblik.",
        "Beklager, jeg kan ikke svare lige nu. Prøv igen om lidt.",
        "Beklager, jeg tabte tråden. Spørg mig igen.",
        "Beklager, jeg kan ikke høre dig lige nu. Sig det igen, eller skriv det.",
        "Min stemme virker ikke lige nu. Læs, hvad jeg siger.",
    ),
    "de": (
        "Einen Moment, bitte.",
        "Es tut mir leid, ich kann gerade nicht antworten. Bitte versuchen Sie es gleich noch einmal.",
        "Es tut mir leid, ich habe den Faden verloren. Bitte fragen Sie noch einmal.",
        "Es tut mir leid, ich kann Sie gerade nicht hören. Bitte sagen Sie es noch einmal, oder schreiben Sie es.",
        "Meine Stimme funktioniert gerade nicht. Bitte lesen Sie, was ich sage.",
    ),
    "el": (
        "Μια στιγμή, παρακαλώ.",
        "Λυπάμαι, δεν μπορώ να απαντήσω τώρα. Δοκιμάστε ξανά σε λίγο.",
        "Λυπάμαι, έχασα τον ειρμό μου. Ρωτήστε με ξανά.",
        "Λυπάμαι, δεν σας ακούω τώρα. Πείτε το ξανά ή γράψτε το.",
        "Η φωνή μου δεν λειτουργεί τώρα. Διαβάστε αυτά που λέω.",
    ),
    "es": (
        "Un momento, por favor.",
        "Lo siento, ahora mismo no puedo responder. Inténtelo de nuevo en un momento.",
        "Lo siento, he perdido el hilo. Pregúnteme otra vez.",
        "Lo siento, ahora mismo no le oigo. Repítalo o escríbalo.",
        "Mi voz no funciona ahora mismo. Lea lo que digo.",
    ),
    "et": (
        "Üks hetk, palun.",
        "Vabandust, ma ei saa praegu vastata. Palun proovige hetke pärast uuesti.",
        "Vabandust, mul läks järg käest. Palun küsige uuesti.",
        "Vabandust, ma ei kuule teid praegu. Palun öelge uuesti või kirjutage.",
        "Minu hääl praegu ei tööta. Palun lugege, mida ma ütlen.",
    ),
    "fa": (
        "یک لحظه لطفاً.",
        "متأسفم، الان نمی‌توانم پاسخ بدهم. لطفاً کمی بعد دوباره امتحان کنید.",
        "متأسفم، رشتهٔ کلام از دستم رفت. لطفاً دوباره بپرسید.",
        "متأسفم، الان صدای شما را نمی‌شنوم. لطفاً دوباره بگویید یا بنویسید.",
        "صدای من الان کار نمی‌کند. لطفاً آنچه را می‌گویم بخوانید.",
    ),
    "fi": (
        "Hetkinen.",
        "Anteeksi, en voi vastata juuri nyt. Yritä hetken kuluttua uudelleen.",
        "Anteeksi, ajatus katkesi. Kysy uudelleen.",
        "Anteeksi, en kuule sinua juuri nyt. Sano se uudelleen tai kirjoita se.",
        "Ääneni ei toimi juuri nyt. Lue, mitä sanon.",
    ),
    "fr": (
        "Un instant, s'il vous plaît.",
        "Je suis désolé, je ne peux pas répondre pour le moment. Veuillez réessayer dans un instant.",
        "Je suis désolé, j'ai perdu le fil. Veuillez me reposer la question.",
        "Je suis désolé, je ne vous entends pas pour le moment. Veuillez répéter ou écrire.",
        "Ma voix ne fonctionne pas pour le moment. Veuillez lire ce que je dis.",
    ),
    "he": (
        "רגע אחד, בבקשה.",
        "מצטערים, אי אפשר לענות כרגע. נא לנסות שוב בעוד רגע.",
        "מצטערים, התשובה נקטעה. נא לשאול שוב.",
        "מצטערים, לא שומעים אותך כרגע. נא לומר שוב או לכתוב.",
        "הקול שלי לא פועל כרגע. נא לקרוא את מה שנאמר.",
    ),
    "hi": (
        "एक क्षण रुकिए।",
        "क्षमा करें, मैं अभी उत्तर नहीं दे सकता। कृपया थोड़ी देर में फिर कोशिश करें।",
        "क्षमा करें, बात बीच में टूट गई। कृपया फिर से पूछें।",
        "क्षमा करें, मैं अभी आपको सुन नहीं पा रहा। कृपया फिर से बोलें या लिखें।",
        "मेरी आवाज़ अभी काम नहीं कर रही। कृपया मेरी बात पढ़ें।",
    ),
    "hr": (
        "Trenutak, molim.",
        "Žao mi je, trenutačno ne mogu odgovoriti. Pokušajte ponovno za trenutak.",
        "Žao mi je, odgovor se prekinuo. Pitajte me ponovno.",
        "Žao mi je, trenutačno vas ne čujem. Ponovite ili napišite.",
        "Moj glas trenutačno ne radi. Pročitajte što govorim.",
    ),
    "hu": (
        "Egy pillanat, kérem.",
        "Sajnálom, most nem tudok válaszolni. Kérem, próbálja meg egy pillanat múlva.",
        "Sajnálom, elvesztettem a fonalat. Kérem, kérdezze meg újra.",
        "Sajnálom, most nem hallom. Kérem, mondja újra, vagy írja le.",
        "A hangom most nem működik. Kérem, olvassa el, amit mondok.",
    ),
    "id": (
        "Tunggu sebentar.",
        "Maaf, saya tidak bisa menjawab sekarang. Silakan coba lagi sebentar lagi.",
        "Maaf, jawaban saya terputus. Silakan tanyakan lagi.",
        "Maaf, saya tidak bisa mendengar Anda sekarang. Silakan ulangi atau ketik.",
        "Suara saya sedang tidak berfungsi. Silakan baca yang saya katakan.",
    ),
    "it": (
        "Un momento, per favore.",
        "Mi dispiace, in questo momento non posso rispondere. Riprovi tra poco.",
        "Mi dispiace, ho perso il filo. Me lo chieda di nuovo.",
        "Mi dispiace, in questo momento non la sento. Lo ripeta o lo scriva.",
        "La mia voce al momento non funziona. Legga quello che dico.",
    ),
    "ja": (
        "少々お待ちください。",
        "申し訳ありません、ただいまお答えできません。少ししてからもう一度お試しください。",
        "申し訳ありません、答えが途切れました。もう一度お尋ねください。",
        "申し訳ありません、ただいま聞き取れません。もう一度話すか、入力してください。",
        "ただいま声が出ません。文字でお読みください。",
    ),
    "ko": (
        "잠시만 기다려 주세요.",
        "죄송합니다. 지금은 대답할 수 없습니다. 잠시 후 다시 시도해 주세요.",
        "죄송합니다. 대답이 끊겼습니다. 다시 물어봐 주세요.",
        "죄송합니다. 지금은 들을 수 없습니다. 다시 말씀하시거나 입력해 주세요.",
        "지금은 목소리가 나오지 않습니다. 글로 읽어 주세요.",
    ),
    "lt": (
        "Prašau, akimirką.",
        "Atsiprašau, dabar negaliu atsakyti. Bandykite dar kartą po akimirkos.",
        "Atsiprašau, atsakymas nutrūko. Paklauskite dar kartą.",
        "Atsiprašau, dabar jūsų negirdžiu. Pakartokite arba parašykite.",
        "Mano balsas dabar neveikia. Skaitykite, ką sakau.",
    ),
    "lv": (
        "Vienu mirkli, lūdzu.",
        "Atvainojiet, šobrīd nevaru atbildēt. Lūdzu, mēģiniet vēlreiz pēc brīža.",
        "Atvainojiet, atbilde pārtrūka. Lūdzu, jautājiet vēlreiz.",
        "Atvainojiet, šobrīd jūs nedzirdu. Lūdzu, atkārtojiet vai uzrakstiet.",
        "Mana balss šobrīd nedarbojas. Lūdzu, lasiet, ko saku.",
    ),
    "ms": (
        "Sebentar, ya.",
        "Maaf, saya tidak dapat menjawab sekarang. Sila cuba lagi sebentar lagi.",
        "Maaf, jawapan saya terputus. Sila tanya lagi.",
        "Maaf, saya tidak dapat mendengar anda sekarang. Sila ulang atau taip.",
        "Suara saya tidak berfungsi sekarang. Sila baca apa yang saya katakan.",
    ),
    "nl": (
        "Een ogenblik, alstublieft.",
        "Het spijt me, ik kan nu niet antwoorden. Probeer het zo nog eens.",
        "Het spijt me, ik ben de draad kwijt. Vraag het me nog eens.",
        "Het spijt me, ik kan u nu niet horen. Zeg het nog eens, of typ het.",
        "Mijn stem werkt nu niet. Lees wat ik zeg.",
    ),
    "no": (
        "Et øyeblikk.",
        "Beklager, jeg kan ikke svare akkurat nå. Prøv igjen om litt.",
        "Beklager, jeg mistet tråden. Spør meg igjen.",
        "Beklager, jeg kan ikke høre deg akkurat nå. Si det igjen, eller skriv det.",
        "Stemmen min virker ikke akkurat nå. Les det jeg sier.",
    ),
    "pl": (
        "Chwileczkę.",
        "Przepraszam, nie mogę teraz odpowiedzieć. Proszę spróbować za chwilę.",
        "Przepraszam, odpowiedź się urwała. Proszę zapytać jeszcze raz.",
        "Przepraszam, teraz nie słyszę. Proszę powtórzyć albo napisać.",
        "Mój głos teraz nie działa. Proszę przeczytać, co mówię.",
    ),
    "pt": (
        "Um momento, por favor.",
        "Desculpe, não posso responder agora. Tente novamente daqui a pouco.",
        "Desculpe, perdi o fio à meada. Pergunte outra vez.",
        "Desculpe, não consigo ouvir agora. Repita ou escreva.",
        "A minha voz não está a funcionar agora. Leia o que digo.",
    ),
    "pt-br": (
        "Um momento, por favor.",
        "Desculpe, não consigo responder agora. Tente de novo daqui a pouco.",
        "Desculpe, perdi o fio da meada. Pergunte de novo.",
        "Desculpe, não consigo ouvir você agora. Repita ou digite.",
        "Minha voz não está funcionando agora. Leia o que eu digo.",
    ),
    "ro": (
        "Un moment, vă rog.",
        "Îmi pare rău, nu pot răspunde acum. Încercați din nou imediat.",
        "Îmi pare rău, am pierdut firul. Întrebați-mă din nou.",
        "Îmi pare rău, nu vă aud acum. Repetați sau scrieți.",
        "Vocea mea nu funcționează acum. Citiți ce spun.",
    ),
    "ru": (
        "Одну минуту, пожалуйста.",
        "Извините, сейчас я не могу ответить. Попробуйте ещё раз чуть позже.",
        "Извините, ответ прервался. Спросите ещё раз.",
        "Извините, сейчас я вас не слышу. Повторите или напишите.",
        "Мой голос сейчас не работает. Прочитайте, что я говорю.",
    ),
    "sk": (
        "Moment, prosím.",
        "Prepáčte, teraz nemôžem odpovedať. Skúste to o chvíľu znova.",
        "Prepáčte, odpoveď sa prerušila. Opýtajte sa znova.",
        "Prepáčte, teraz vás nepočujem. Zopakujte to alebo to napíšte.",
        "Môj hlas teraz nefunguje. Prečítajte si, čo hovorím.",
    ),
    "sl": (
        "Trenutek, prosim.",
        "Oprostite, trenutno ne morem odgovoriti. Poskusite znova čez trenutek.",
        "Oprostite, odgovor se je prekinil. Vprašajte znova.",
        "Oprostite, trenutno vas ne slišim. Ponovite ali napišite.",
        "Moj glas trenutno ne deluje. Preberite, kar povem.",
    ),
    "sr": (
        "Тренутак, молим.",
        "Жао ми је, тренутно не могу да одговорим. Покушајте поново за тренутак.",
        "Жао ми је, одговор се прекинуо. Питајте ме поново.",
        "Жао ми је, тренутно вас не чујем. Поновите или напишите.",
        "Мој глас тренутно не ради. Прочитајте шта кажем.",
    ),
    "sv": (
        "Ett ögonblick.",
        "Tyvärr kan jag inte svara just nu. Försök igen om en stund.",
        "Tyvärr tappade jag tråden. Fråga mig igen.",
        "Tyvärr kan jag inte höra dig just nu. Säg det igen eller skriv det.",
        "Min röst fungerar inte just nu. Läs det jag säger.",
    ),
    "th": (
        "กรุณารอสักครู่",
        "ขออภัย ขณะนี้ยังตอบไม่ได้ กรุณาลองใหม่อีกครั้งในอีกสักครู่",
        "ขออภัย คำตอบขาดหายไป กรุณาถามอีกครั้ง",
        "ขออภัย ขณะนี้ไม่ได้ยินเสียงของคุณ กรุณาพูดอีกครั้งหรือพิมพ์ข้อความ",
        "ขณะนี้เสียงของฉันใช้ไม่ได้ กรุณาอ่านข้อความแทน",
    ),
    "tr": (
        "Bir dakika lütfen.",
        "Üzgünüm, şu anda yanıt veremiyorum. Lütfen birazdan yeniden deneyin.",
        "Üzgünüm, sözüm yarım kaldı. Lütfen yeniden sorun.",
        "Üzgünüm, şu anda sizi duyamıyorum. Lütfen tekrar söyleyin ya da yazın.",
        "Sesim şu anda çalışmıyor. Lütfen söylediklerimi okuyun.",
    ),
    "uk": (
        "Хвилинку, будь ласка.",
        "Вибачте, зараз я не можу відповісти. Спробуйте ще раз трохи згодом.",
        "Вибачте, відповідь перервалася. Запитайте ще раз.",
        "Вибачте, зараз я вас не чую. Повторіть або напишіть.",
        "Мій голос зараз не працює. Прочитайте, що я кажу.",
    ),
    "ur": (
        "ایک لمحہ، براہ کرم۔",
        "معذرت، میں ابھی جواب نہیں دے سکتا۔ براہ کرم تھوڑی دیر میں دوبارہ کوشش کریں۔",
        "معذرت، بات بیچ میں رہ گئی۔ براہ کرم دوبارہ پوچھیں۔",
        "معذرت، میں ابھی آپ کو سن نہیں سکتا۔ براہ کرم دوبارہ کہیں یا لکھیں۔",
        "میری آواز ابھی کام نہیں کر رہی۔ براہ کرم میری بات پڑھیں۔",
    ),
    "vi": (
        "Xin chờ một chút.",
        "Xin lỗi, tôi chưa thể trả lời lúc này. Vui lòng thử lại sau giây lát.",
        "Xin lỗi, câu trả lời của tôi bị ngắt. Vui lòng hỏi lại.",
        "Xin lỗi, tôi không nghe được bạn lúc này. Vui lòng nói lại hoặc gõ chữ.",
        "Giọng nói của tôi hiện không hoạt động. Vui lòng đọc lời tôi.",
    ),
    "zh": (
        "请稍等。",
        "抱歉，我现在无法回答。请稍后再试。",
        "抱歉，我的回答中断了。请再问一次。",
        "抱歉，我现在听不到您。请再说一遍，或者输入文字。",
        "我的声音现在无法使用。请阅读我说的话。",
    ),
}


def apologies_for(language: str) -> Apologies:
    """Sentences for a language tag; English where there are none."""
    tag = language.casefold().replace("_", "-")
    return Apologies(*(TABLE.get(tag) or TABLE.get(tag.split("-")[0]) or TABLE["en"]))


def without_apologies(context: ChatContext, apologies: Apologies) -> ChatContext:
    """What was said, for a language model: these sentences are none of its own, and it would go on to say them."""
    kept = context.copy()
    kept.items = [cleaned for item in context.items if (cleaned := _cleaned(item, apologies)) is not None]
    return kept


def _cleaned(item: ChatItem, apologies: Apologies) -> ChatItem | None:
    if not isinstance(item, ChatMessage) or item.role != "assistant":
        return item
    text = item.text_content or ""
    said = without_thoughts(text)
    for sentence in astuple(apologies):
        said = said.replace(sentence, " ")
    if said == text:
        return item
    return item.model_copy(update={"content": [said.strip()]}) if said.strip() else None
